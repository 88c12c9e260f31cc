"""Does it stay quick and small? Routes, keys, memory and start time as they grow.

    python -m bench.scaling [--rounds 5] [--seconds 4] [--keys 1000000] [--events 10000000]

Processor time per request with 10 and 10,000 routes, and with 10 and 1,000,000
keys in the store; each large case twice: only 10 of the routes or keys called
(what the size itself costs) and calls spread evenly over 10,000 of them (what a
large working set costs besides: every key has its row in balances and rollups).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.contestants import (
    Contestant,
    Stage,
    backend_body,
    launch_tallygate,
    setup_tallygate,
    start_backend,
    start_tallygate,
)
from bench.gateway_config import GatewaySetup, bench_key, measured_path, route_paths
from bench.history import forget_pages, write_events, write_keys
from bench.load import Load, Measured, measure, run_wrk, wait_until_ready
from bench.machine import facts, install
from bench.processes import BenchError, two_cores, workshop
from bench.run import RESULTS

SMALL, LARGE_ROUTES, WORKING_SET = 10, 10_000, 10_000
GROWTH_MAX = 1.10
RSS_MAX_MB = 120.0
START_MAX_S, START_PAST_MAX_S = 1.0, 5.0
WARM_UP_S = 4  # long enough for every key of the working set to be looked up
STARTS = 3


@dataclass(frozen=True, slots=True)
class Case:
    """One row: a running gateway and the requests it is given."""

    name: str
    baseline: str  # the case it is compared with; "" for none
    contestant: Contestant
    path: str
    load: Load


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all parts, print the figures beside what is required, write scaling.json."""
    options = parse(arguments)
    if missing := install(["nginx", "wrk"]):
        print("cannot measure without", " and ".join(missing), file=sys.stderr)
        return 1
    gateway_core, load_core = two_cores()
    os.sched_setaffinity(0, {load_core})
    result = facts(options.python)
    with workshop() as fleet:
        try:
            port = start_backend(fleet, load_core, backend_body(316))
            stage = Stage(fleet, options.python, gateway_core, load_core, port, bench_key())
            if "cpu" in options.parts:
                result["cpu"] = growth(stage, options)
            if "start" in options.parts:
                result["start"] = start_times(stage, options.events)
        except BenchError as error:
            print(error, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "scaling.json").write_text(json.dumps(result, indent=2) + "\n")
    return 0


def growth(stage: Stage, options: argparse.Namespace) -> dict[str, object]:
    """Processor time per request of every case, medians of interleaved rounds."""
    cases = route_cases(stage) + key_cases(stage, options.keys)
    rounds: dict[str, list[Measured]] = {case.name: [] for case in cases}
    for case in cases:
        run_wrk(case.contestant.url(case.path), case.load, WARM_UP_S)
    for number in range(1, options.rounds + 1):
        for case in cases:
            url = case.contestant.url(case.path)
            run_wrk(url, case.load, 1)
            run = measure(case.contestant.server, url, case.load, options.seconds)
            rounds[case.name].append(run)
            print(f"round {number} {case.name:<40}{run.cpu_us:>7.1f} us/req", flush=True)
    medians = {name: statistics.median(r.cpu_us for r in runs) for name, runs in rounds.items()}
    print(f"\n{'case':<40}{'CPU us/req':>11}{'growth':>8}  required{'RSS MB':>16}")
    for case in cases:
        rss = rounds[case.name][-1].rss_mb
        line = f"{case.name:<40}{medians[case.name]:>11.1f}"
        if case.baseline:
            ratio = medians[case.name] / medians[case.baseline]
            line += f"{ratio - 1:>+8.1%}  < 10% {'OK' if ratio < GROWTH_MAX else 'MISSED':<8}"
        else:
            line += " " * 24
        print(f"{line}{rss:>10.1f}")
    rss = rounds[RSS_CASE][-1].rss_mb
    print(f"\nRSS at 10,000 keys: {rss:.1f} MB, required < 120: {verdict(rss < RSS_MAX_MB)}")
    return {name: [dataclasses.asdict(run) for run in runs] for name, runs in rounds.items()}


RSS_CASE = "10,000 keys, all of them called"


def route_cases(stage: Stage) -> list[Case]:
    """Gateways with a small and a large table of routes; the key is declared."""
    small, large = (
        start_tallygate(stage, dataclasses.replace(setup_tallygate(stage, name), routes=routes))
        for name, routes in (("routes-small", SMALL), ("routes-large", LARGE_ROUTES))
    )
    paths = route_paths(LARGE_ROUTES)
    few = targets(stage, "few-routes", [(path, stage.key) for path in paths[:SMALL]])
    all_ = targets(stage, "all-routes", [(path, stage.key) for path in paths])
    base = "10 routes, all of them called"
    return [
        Case(base, "", small, paths[0], few),
        Case("10,000 routes, 10 of them called", base, large, paths[0], few),
        Case("10,000 routes, all of them called", base, large, paths[0], all_),
    ]


def key_cases(stage: Stage, keys: int) -> list[Case]:
    """Gateways with few, 10,000 and very many keys in the store; none is declared."""
    path = measured_path(stage.routes)
    small, few = with_keys(stage, "keys-small", SMALL)
    middle, ten_thousand = with_keys(stage, "keys-middle", WORKING_SET)
    large, spread = with_keys(stage, "keys-large", keys)

    def load(name: str, called: Sequence[str]) -> Load:
        return targets(stage, name, [(path, key) for key in called])

    base = "10 keys, all of them called"
    many = f"{keys:,} keys"
    return [
        Case(base, "", small, path, load("keys-small", few)),
        Case(RSS_CASE, base, middle, path, load("keys-middle", ten_thousand)),
        Case(f"{many}, 10 of them called", base, large, path, load("keys-hot", spread[:SMALL])),
        Case(f"{many}, 10,000 of them called", base, large, path, load("keys-spread", spread)),
    ]


def with_keys(stage: Stage, name: str, count: int) -> tuple[Contestant, list[str]]:
    """A gateway with `count` keys in its store, and the keys to call it with."""
    setup = dataclasses.replace(setup_tallygate(stage, name), key=None)
    database = setup.store
    began = time.monotonic()
    keys = write_keys(database, count, WORKING_SET)
    print(f"{count:,} keys written in {time.monotonic() - began:.1f} s", flush=True)
    return start_tallygate(stage, setup), keys


def targets(stage: Stage, name: str, lines: Sequence[tuple[str, str]]) -> Load:
    """The load that goes through these paths and keys in turn, 32 connections."""
    path = stage.directory / f"{name}.targets"
    path.write_text("".join(f"{target}\t{key}\n" for target, key in lines))
    return Load(32, stage.load_core, stage.key, path)


def start_times(stage: Stage, events: int) -> dict[str, list[float]]:
    """Seconds from process start to 200 of /readyz: no history, and `events` in the store."""
    setup = setup_tallygate(stage, "start")
    result = {"first start, empty directory": [start_once(stage, setup)]}
    result["no history"] = [start_once(stage, setup) for _ in range(STARTS)]
    database = setup.store
    began = time.monotonic()
    write_events(database, events, time.time_ns() // 1000)
    size = database.stat().st_size / 1e9
    took = time.monotonic() - began
    print(f"\n{events:,} events ({size:.1f} GB) written in {took:.0f} s", flush=True)
    cold, warm = [], []
    for _ in range(STARTS):
        forget_pages(database)
        cold.append(start_once(stage, setup))
        warm.append(start_once(stage, setup))
    result[f"{events:,} events, files not in memory"] = cold
    result[f"{events:,} events"] = warm
    print(f"\n{'start to /readyz 200':<40}{'s':>7}  required")
    for name, times in result.items():
        limit = START_PAST_MAX_S if "events" in name else START_MAX_S
        median = statistics.median(times)
        print(f"{name:<40}{median:>7.2f}  < {limit:.0f} {verdict(median < limit)}")
    return result


def start_once(stage: Stage, setup: GatewaySetup) -> float:
    """Start, wait for /readyz, end; returns the seconds to ready."""
    began = time.monotonic()
    server = launch_tallygate(stage, setup)
    wait_until_ready(server, setup.admin_port, "/readyz", None, 120.0)
    took = time.monotonic() - began
    stage.fleet.end(server)
    return took


def verdict(holds: bool) -> str:
    """How a requirement came out."""
    return "OK" if holds else "MISSED"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (5)")
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement (4)")
    parser.add_argument("--keys", type=int, default=1_000_000, help="in the large store")
    parser.add_argument("--events", type=int, default=10_000_000, help="in the store with a past")
    parser.add_argument("--parts", nargs="+", default=["cpu", "start"], choices=("cpu", "start"))
    parser.add_argument("--python", default=sys.executable, help="interpreter of the gateway")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
