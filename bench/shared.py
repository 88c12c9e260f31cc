"""What does it cost to share? The same load on several ways to keep figures.

    python -m bench.shared [--rounds 9] [--seconds 2] [--connections 32]

embedded: memory and SQLite. store: memory and PostgreSQL. shared: Valkey and PostgreSQL,
as several gateways would use them. workers: the same with two processes on one port. apart:
two gateways that have nothing to do with each other, each like shared. One account and one
key, so every request changes the same document. The servers are those of the tests (PyPI
wheels) and share the second core with backend and load; only the gateway's processor time is
counted, of all its processes, which are on one core. So two workers cannot be faster here, and
two processes that take turns on a core cost more for each request whatever they do. That is
what `apart` shows: two cores carry 2 x apart / workers of what one does. Both of these get the
connections twice, so that each process has what the one has.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import psutil
import psycopg

from bench.contestants import (
    Stage,
    backend_body,
    setup_tallygate,
    start_backend,
    start_tallygate,
)
from bench.gateway_config import bench_key, measured_path
from bench.load import Load, run_wrk
from bench.machine import facts, install
from bench.processes import BenchError, Fleet, Server, two_cores, workshop
from bench.run import RESULTS
from tests.support import stores, valkey

MORE_MAX = 1.3
WARM_UP_S = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all ways round by round, print ratios, write shared.json."""
    options = parse(arguments)
    if missing := install(["nginx", "wrk"]):
        print("cannot measure without", " and ".join(missing), file=sys.stderr)
        return 1
    with workshop() as fleet:
        try:
            found, postgres_us = compare(fleet, options)
        except (BenchError, OSError) as error:
            print(error, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
    medians = {
        name: {key: statistics.median([run[key] for run in runs]) for key in runs[0]}
        for name, runs in found.items()
    }
    for name, figures in medians.items():
        least = min(run["cpu_us"] for run in found[name])
        print(
            f"{name:<9}{figures['cpu_us']:>6.1f} us/request, least {least:.1f}  "
            f"{by_round(found, name, 'embedded'):.2f} x embedded  "
            f"p50 {figures['p50_ms']:.2f} ms  p99 {figures['p99_ms']:.2f} ms  "
            f"{figures['rps']:,.0f} requests/s  Valkey {figures['valkey_us']:.1f} us"
        )
    print(f"PostgreSQL {postgres_us:.1f} us for each event")
    print(f"wanted: shared at most {MORE_MAX} x embedded")
    scaled = 2 * by_round(found, "apart", "workers")
    print(f"two workers on two cores, by processor time: {scaled:.2f} x one (wanted: 1.7)")
    RESULTS.mkdir(exist_ok=True)
    result = {
        **facts(sys.executable),
        "connections": options.connections,
        "postgres_us": postgres_us,
        "runs": found,
    }
    (RESULTS / "shared.json").write_text(json.dumps(result, indent=2) + "\n")
    return 0


def by_round(found: dict[str, list[dict[str, float]]], name: str, other: str) -> float:
    """The median of the rounds' ratios: the machine's own speed changes from round to round."""
    pairs = zip(found[name], found[other], strict=True)
    return statistics.median([run["cpu_us"] / beside["cpu_us"] for run, beside in pairs])


def compare(
    fleet: Fleet, options: argparse.Namespace
) -> tuple[dict[str, list[dict[str, float]]], float]:
    """Figures by way, one set for each round; PostgreSQL's processor time for each event.

    What is shipped in a round is written, logged and vacuumed in later ones: it is of them all.
    """
    gateway_core, load_core = two_cores()
    os.sched_setaffinity(0, {load_core})
    port = start_backend(fleet, load_core, backend_body(316))
    stage = Stage(fleet, sys.executable, gateway_core, load_core, port, bench_key())
    ways = {name: way(stage, name) for name in ("embedded", "store", "shared", "workers")}
    ways["apart"] = Way([*way(stage, "shared", "-1").servers, *way(stage, "shared", "-2").servers])
    state = valkey.server().process
    assert state is not None
    load = Load(options.connections, load_core, stage.key)
    path = measured_path(stage.routes)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    store, events = postmaster(), 0
    store_s = cpu_s(store)
    for name, each in ways.items():
        warm = run_all(each, path, load, WARM_UP_S)
        events += sum_of(warm, "requests") if name != "embedded" else 0
    for _ in range(options.rounds):
        for name, each in ways.items():
            warm = run_all(each, path, load, 1)
            begun_s = cpu_s(state.pid)
            used_s, reports = measure(each, path, load, options.seconds)
            requests = sum_of(reports, "requests")
            found[name].append(
                {
                    "cpu_us": used_s / requests * 1e6,
                    "rps": sum(r["requests"] / r["duration_us"] * 1e6 for r in reports),
                    "p50_ms": statistics.mean(r["p50_us"] for r in reports) / 1e3,
                    "p99_ms": max(r["p99_us"] for r in reports) / 1e3,
                    "valkey_us": (cpu_s(state.pid) - begun_s) / requests * 1e6,
                }
            )
            events += sum_of(warm, "requests") + requests if name != "embedded" else 0
    return found, (cpu_s(store) - store_s) / events * 1e6


@dataclass(frozen=True, slots=True)
class Way:
    """Gateways, and the ports that the load comes to, each with all connections."""

    servers: list[tuple[Server, int]]


def way(stage: Stage, name: str, number: str = "") -> Way:
    setup = setup_tallygate(stage, f"tallygate-{name}{number}")
    if name != "embedded":
        setup = replace(setup, store_url=stores.postgres_url(setup.directory))
    if name in ("shared", "workers"):
        setup = replace(setup, state_url=valkey.server().url)
    if name == "workers":
        setup = replace(setup, workers=2)
    server = start_tallygate(stage, setup).server
    return Way([(server, setup.port)] * setup.workers)


def measure(each: Way, path: str, load: Load, seconds: int) -> tuple[float, list[dict[str, int]]]:
    """Processor time in seconds, put-off work included, and what each load saw."""
    servers = {id(server): server for server, _ in each.servers}.values()
    for server in servers:
        server.settle()
    before_s = sum(server.cpu_s() for server in servers)
    reports = run_all(each, path, load, seconds)
    for server in servers:
        server.check_alive()
        server.settle()
    return sum(server.cpu_s() for server in servers) - before_s, reports


def run_all(each: Way, path: str, load: Load, seconds: int) -> list[dict[str, int]]:
    """One load for each port, at once."""
    urls = [f"http://127.0.0.1:{port}{path}" for _, port in each.servers]
    with ThreadPoolExecutor(len(urls)) as threads:
        return list(threads.map(lambda url: run_wrk(url, load, seconds), urls))


def sum_of(reports: list[dict[str, int]], name: str) -> int:
    return sum(report[name] for report in reports)


def postmaster() -> int:
    """The process that all of PostgreSQL's are children of."""
    with psycopg.connect(stores.server()) as connection:
        (backend,) = connection.execute("SELECT pg_backend_pid()").fetchall()[0]
        return int(psutil.Process(backend).ppid())


def cpu_s(pid: int) -> float:
    """Of a process and its children, also of those that have ended."""
    process = psutil.Process(pid)
    total = 0.0
    for each in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = each.cpu_times()
            total += times.user + times.system
            total += times.children_user + times.children_system
    return total


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="alternating rounds (9)")
    parser.add_argument("--seconds", type=int, default=2, help="of each measurement (2)")
    parser.add_argument("--connections", type=int, default=32, help="in flight (32)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
