"""Main benchmark, `make bench`: what does a metered request cost, beside four peers?

    python -m bench.run [--rounds 5] [--seconds 4] [--only tallygate,caddy] ...

The rounds are interleaved (A B C D E, A B C D E, ...), so that a slow minute of
the machine hits all alike. All servers stay up for the whole run: an idle one
costs nothing (each measurement waits until its server is idle again), and
restarting would measure cold pools and caches in every round.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.contestants import (
    NAMES,
    TOOLS,
    Contestant,
    Stage,
    backend_body,
    prove,
    start,
    start_backend,
)
from bench.gateway_config import bench_key, measured_path
from bench.load import Load, Measured, measure, run_wrk
from bench.machine import facts, install
from bench.processes import BenchError, Fleet, two_cores, workshop
from bench.report import print_table, write_results

RESULTS = Path(__file__).resolve().parent / "results"
WARM_UP_S = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 when every contestant was measured without an error."""
    options = parse(arguments)
    names = list(options.only)
    needed = {tool for name in names for tool in TOOLS[name]} | {"nginx", "wrk"}
    missing = install(sorted(needed))
    errors = {
        name: f"not installed: {lacks}" for name in names if (lacks := lacking(name, missing))
    }
    if "nginx" in missing or "wrk" in missing:
        print("cannot measure without", " and ".join(missing), file=sys.stderr)
        return 1
    about = {"options": describe(options), **facts(options.python)}
    with workshop() as fleet:
        try:
            results = compare(fleet, [n for n in names if n not in errors], options, errors)
        except BenchError as error:
            print(error, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("interrupted: nothing written", file=sys.stderr)
            return 130
    print_table(results, errors)
    if options.out is not None and results:
        write_results(options.out, results, errors, about)
        print(f"\nwritten to {options.out}/latest.json and latest-details.json")
    return 1 if errors else 0


def compare(
    fleet: Fleet, names: Sequence[str], options: argparse.Namespace, errors: dict[str, str]
) -> dict[str, list[Measured]]:
    """Start everybody and measure round by round; who fails is left out from then on."""
    gateway_core, load_core = two_cores()
    os.sched_setaffinity(0, {load_core})
    body = backend_body(options.backend_size)
    stage = Stage(
        fleet=fleet,
        python=options.python,
        gateway_core=gateway_core,
        load_core=load_core,
        backend_port=start_backend(fleet, load_core, body),
        key=bench_key(),
        routes=options.routes,
    )
    path = measured_path(options.routes)
    load = Load(options.connections, load_core, stage.key)
    running: dict[str, Contestant] = {}
    for name in names:
        try:
            running[name] = start(name, stage)
            prove(running[name], stage, path, body)
            run_wrk(running[name].url(path), load, WARM_UP_S)
        except BenchError as error:
            errors[name] = str(error)
            running.pop(name, None)
    results: dict[str, list[Measured]] = {name: [] for name in running}
    for number in range(1, options.rounds + 1):
        for name, contestant in list(running.items()):
            try:
                run_wrk(contestant.url(path), load, 1)
                run = measure(contestant.server, contestant.url(path), load, options.seconds)
            except BenchError as error:
                errors[name] = f"round {number}: {error}"
                del running[name], results[name]
                continue
            results[name].append(run)
            print(
                f"round {number} {name:<14}{run.rps:>9.0f} req/s {run.cpu_us:>7.1f} us/req"
                f" {run.cpu_share:>5.0%} of its core, p99 {run.p99_ms:.2f} ms",
                flush=True,
            )
    return results


def lacking(name: str, missing: Sequence[str]) -> str:
    """The tools a contestant needs and does not have, as text."""
    return ", ".join(tool for tool in TOOLS[name] if tool in missing)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; `out` is None when only some contestants run and no place was named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (5)")
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement (4)")
    parser.add_argument("--connections", type=int, default=32, help="of the load (32)")
    parser.add_argument("--only", type=name_list, default=NAMES, help="names, comma separated")
    parser.add_argument("--routes", type=int, default=60, help="in tallygate's table (60)")
    parser.add_argument("--backend-size", type=int, default=316, help="bytes of the answer (316)")
    parser.add_argument("--python", default=sys.executable, help="interpreter of the contestants")
    parser.add_argument("--out", type=Path, help="where the results go (bench/results)")
    options = parser.parse_args(arguments)
    if min(options.rounds, options.seconds, options.connections, options.routes) < 1:
        parser.error("rounds, seconds, connections and routes are at least 1")
    if options.out is None and set(options.only) == set(NAMES):
        options.out = RESULTS
    return options


def name_list(text: str) -> tuple[str, ...]:
    """The named contestants, in the usual order. Raises argparse.ArgumentTypeError."""
    wanted = {name.strip() for name in text.split(",")}
    if unknown := wanted - set(NAMES):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}; known: {', '.join(NAMES)}")
    return tuple(name for name in NAMES if name in wanted)


def describe(options: argparse.Namespace) -> dict[str, object]:
    """The options of this run, for the record; no path of this machine."""
    return {
        name: getattr(options, name)
        for name in ("rounds", "seconds", "connections", "only", "routes", "backend_size")
    }


if __name__ == "__main__":
    sys.exit(main())
