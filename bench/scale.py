"""What does a fleet need, and what is full first? A model of what was measured here.

    python -m bench.scale [--rates 1000 10000 100000 1000000] [--utilisation 0.6]

Reads what `bench.shared` and `bench.state` have written into bench/results: processor time
per request of a gateway, of the state's server and of PostgreSQL. Everything grows with the
rate; the only figure that does not is the one writer of PostgreSQL that a store has.
Prices are assumptions, given as options. Told in bench/scale.md.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from bench.run import RESULTS

EVENT_BYTES = 480  # with one charge, indexes included (docs/operations.md, Sizing)
WAL_FACTOR = 2.2  # bytes of WAL for each byte of a table that is appended to
DAY_S = 86_400


class Costs(NamedTuple):
    """Microseconds of a core for each request."""

    gateway: float
    state_hot: float
    state_spread: float
    store: float


class Need(NamedTuple):
    rate: int
    gateway_cores: int
    state_shards: int
    store_cores: float
    disk: float  # share of PostgreSQL's disk that is used
    table_mb_s: float
    tb_day: float
    dollars_month: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table for each rate; 1 where a benchmark has not been run."""
    options = parse(arguments)
    try:
        costs = measured()
    except FileNotFoundError as error:
        print(f"{error.filename}: run bench.shared and bench.state first", file=sys.stderr)
        return 1
    print(
        f"measured, microseconds of a core for each request: gateway {costs.gateway:.1f}, state's"
        f" server {costs.state_spread:.1f} (one hot account: {costs.state_hot:.1f}), PostgreSQL"
        f" {costs.store:.1f}"
    )
    one = 1e6 * options.utilisation
    print(
        f"at {options.utilisation:.0%}: a gateway core carries {one / costs.gateway:,.0f}"
        f" requests/s, a shard {one / costs.state_spread:,.0f}, PostgreSQL's writer"
        f" {one / costs.store:,.0f}"
    )
    print()
    print("| requests/s | gateway cores | shards | PostgreSQL cores | its disk | tables MB/s "
          "| TB a day | $ a month |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    for rate in options.rates:
        need = need_of(rate, costs, options)
        print(
            f"| {need.rate:,} | {need.gateway_cores} | {need.state_shards} |"
            f" {need.store_cores:.1f} | {need.disk:.0%} | {need.table_mb_s:,.1f} |"
            f" {need.tb_day:,.2f} | {need.dollars_month:,.0f} |"
        )
    return 0


def measured() -> Costs:
    """Raises FileNotFoundError."""
    shared = json.loads((RESULTS / "shared.json").read_text())
    state = json.loads((RESULTS / "state.json").read_text())["runs"]
    return Costs(
        gateway=_median(shared["runs"]["shared"], "cpu_us"),
        state_hot=_median(state["hot"], "server_us"),
        state_spread=_median(state["uniform"], "server_us"),
        store=shared["postgres_us"],
    )


def need_of(rate: int, costs: Costs, options: argparse.Namespace) -> Need:
    """What a rate of requests takes, each an event with one charge."""
    share = options.utilisation * 1e6
    gateways = math.ceil(rate * costs.gateway / share)
    shards = math.ceil(rate * costs.state_spread / share)
    store = rate * costs.store / share
    table_mb_s = rate * EVENT_BYTES / 1e6
    tb_day = table_mb_s * DAY_S / 1e6
    kept_gb = tb_day * 1000 * options.days
    cores = gateways + shards + math.ceil(store)
    dollars = cores * options.core_dollars + kept_gb * options.gb_dollars
    disk = table_mb_s * WAL_FACTOR / options.disk_mb_s
    return Need(rate, gateways, shards, store, disk, table_mb_s, tb_day, dollars)


def _median(runs: list[dict[str, Any]], figure: str) -> float:
    return statistics.median([float(run[figure]) for run in runs])


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    rates = [1_000, 10_000, 100_000, 1_000_000]
    parser.add_argument("--rates", type=int, nargs="+", default=rates, help="requests a second")
    parser.add_argument("--utilisation", type=float, default=0.6, help="of a core (0.6)")
    parser.add_argument("--days", type=float, default=7, help="events are kept in PostgreSQL (7)")
    parser.add_argument("--disk-mb-s", type=float, default=500, help="of PostgreSQL's disk (500)")
    parser.add_argument("--core-dollars", type=float, default=30, help="a core's month (30)")
    parser.add_argument("--gb-dollars", type=float, default=0.1, help="a GB's month (0.1)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
