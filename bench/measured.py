"""What does a measured price cost? The same answer, priced fixed and by its JSON.

    python -m bench.measured [--rounds 5] [--seconds 4] [--size 2048]

One gateway, one backend that answers a JSON document of `size` bytes, two
routes: one coin per request, and one for each 1,000 tokens that the answer
names, with a reserve. The rounds alternate, so the difference is the price's:
taking the answer's body in, parsing it, estimating, reserving and settling.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace

from bench.contestants import (
    Contestant,
    Stage,
    setup_tallygate,
    start_backend,
    start_tallygate,
)
from bench.gateway_config import bench_key
from bench.load import Load, ask, measure, run_wrk
from bench.machine import facts, install
from bench.processes import BenchError, Fleet, two_cores, workshop
from bench.run import RESULTS

MORE_MAX_US = 12.0
WARM_UP_S = 2
PATHS = {"fixed": "/priced/fixed", "json": "/priced/json"}
TOKENS = 1234


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure both routes round by round, print the difference, write measured.json."""
    options = parse(arguments)
    if missing := install(["nginx", "wrk"]):
        print("cannot measure without", " and ".join(missing), file=sys.stderr)
        return 1
    with workshop() as fleet:
        try:
            costs = compare(fleet, options)
        except (BenchError, OSError) as error:
            print(error, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
    medians = {name: statistics.median(values) for name, values in costs.items()}
    more = medians["json"] - medians["fixed"]
    for name, values in costs.items():
        shown = ", ".join(f"{value:.1f}" for value in values)
        print(f"{name:<8}{medians[name]:>7.1f} us/request   ({shown})")
    print(f"a JSON-measured answer of {options.size} bytes adds {more:.1f} us ", end="")
    print(f"(wanted: at most {MORE_MAX_US:.0f})")
    RESULTS.mkdir(exist_ok=True)
    result = {**facts(sys.executable), "size": options.size, "cpu_us": costs, "more_us": more}
    (RESULTS / "measured.json").write_text(json.dumps(result, indent=2) + "\n")
    return 0


def compare(fleet: Fleet, options: argparse.Namespace) -> dict[str, list[float]]:
    """Processor microseconds per request, by route, one figure for each round."""
    gateway_core, load_core = two_cores()
    os.sched_setaffinity(0, {load_core})
    body = answer_body(options.size)
    port = start_backend(fleet, load_core, body)
    stage = Stage(fleet, sys.executable, gateway_core, load_core, port, bench_key())
    setup = replace(setup_tallygate(stage, "tallygate-measured"), priced=True)
    contestant = start_tallygate(stage, setup)
    load = Load(32, load_core, stage.key)
    prove(contestant, stage, body)
    costs: dict[str, list[float]] = {name: [] for name in PATHS}
    for path in PATHS.values():
        run_wrk(contestant.url(path), load, WARM_UP_S)
    for _ in range(options.rounds):
        for name, path in PATHS.items():
            run_wrk(contestant.url(path), load, 1)
            run = measure(contestant.server, contestant.url(path), load, options.seconds)
            costs[name].append(run.cpu_us)
    return costs


def answer_body(size: int) -> bytes:
    """Like a chat completion: some text and its usage, of exactly `size` bytes."""
    document = {
        "id": "chatcmpl-1",
        "choices": [{"message": {"role": "assistant", "content": ""}}],
        "usage": {"prompt_tokens": 34, "completion_tokens": 1200, "total_tokens": TOKENS},
    }
    room = size - len(json.dumps(document))
    if room < 0:
        raise BenchError(f"an answer has at least {size - room} bytes")
    document["choices"] = [{"message": {"role": "assistant", "content": "x" * room}}]
    return json.dumps(document).encode()


def prove(contestant: Contestant, stage: Stage, body: bytes) -> None:
    """Raises BenchError unless both routes answer, and the measured one measures."""
    left = []
    for path in (*PATHS.values(), PATHS["json"]):
        answer = ask(contestant.port, path, stage.key)
        if answer.status != 200 or answer.body != body:
            raise BenchError(f"{path} answers {answer.status} {answer.body[:200]!r}")
        left.append(int(answer.headers["x-budget-remaining"].removeprefix("coins=")))
    # What is left is told before the answer is settled: 4 are reserved, 2 are charged.
    if (left[0] - left[1], left[1] - left[2]) != (4, 2):
        raise BenchError(f"not measured: {left} left after each call")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds (5)")
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement (4)")
    parser.add_argument("--size", type=int, default=2048, help="bytes of the answer (2048)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
