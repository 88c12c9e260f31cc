"""What do decisions cost the server of the shared state, and this process?

    python -m bench.state [--rounds 3] [--seconds 4] [--accounts 100000] [--in-flight 32]

Decisions without HTTP: requests are admitted and settled by one process against a Valkey
of its own, on accounts that are chosen in four ways. hot: one account. plain: a hundred.
uniform and zipf: among very many, all of which are in use already. Each request has a
budget and a rate limit of its account. Told are processor time per request of this process
and of the server, how many requests go in one call, and the server's memory for each account.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import gc
import itertools
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import psutil
import uvloop

from bench.machine import facts
from bench.processes import two_cores
from bench.run import RESULTS
from gateway.app import GC_THRESHOLDS
from gateway.core.book import Account, Allowance, Plan
from gateway.core.limits import RateLimit
from gateway.core.periods import MONTH
from gateway.core.refusals import Refusal
from gateway.state.base import AccountState, Hold
from gateway.state.shared.document import Record
from gateway.state.shared.groups import Group
from gateway.state.shared.link import Link
from gateway.state.shared.servers import RedisServer
from gateway.state.shared.shared import SharedState
from tests.support.asking import Asking, NoStore
from tests.support.valkey import Valkey

ZIPF = 1.1
# Requests of each account before anything is measured: the first begins its document, and the
# next makes what this process knows of its requests, which takes memory that is new.
WARM = 3
LIMIT = RateLimit("rate", "account", "gcra", 100, 1_000_000, 10**9, id="plan/p/rate")
PLAN = Plan("p", (Allowance("coins", 10**12, MONTH),), (LIMIT,))
CHARGES = (("coins", 1),)


class Outside(NoStore):
    """And what else an account asks for."""

    async def standing(self, account_id: str) -> list[str | int]:
        return []

    async def has_event(self, account_id: str, record: Record) -> bool:
        return False

    def reload(self, account_id: str) -> object:
        return None

    def now_us(self) -> int:
        return time.time_ns() // 1000


class Stage:
    """The state of one process, and its accounts."""

    def __init__(self, valkey: Valkey) -> None:
        self.valkey = valkey
        self.server = RedisServer(valkey.url, 5.0)
        outside = Outside()

        async def epoch(found: str) -> str:
            if not found:
                await self.server.command("SET", "bench{0}epoch", "1")
            return found or "1"

        self.link = Link(self.server, "bench{0}", "journal", epoch, time.time_ns() // 1000)
        self.link.start()
        groups = [Group("bench{0}", self.link)]
        self.state = SharedState(outside, groups, "journal", outside)
        self.numbers = itertools.count(1)
        self.seqs = itertools.count(1)

    def account(self, n: int) -> AccountState:
        name = f"account-{n}"
        found = self.state.loaded(name)
        return found or self.state.account(Account(name, "p"), PLAN)

    async def request(self, n: int) -> None:
        id_ = f"e{next(self.numbers):026d}"
        ask = Asking(self.account(n), time.time_ns() // 1000, CHARGES, PLAN.limits)
        ask.event_id = ask.request_id = id_
        hold: Hold | Refusal | None = self.state.admit_at_once(ask)
        if hold is None:
            hold = await self.state.admit_together(ask)
        else:
            await asyncio.sleep(0)  # the backend's time: others have their turn
        assert isinstance(hold, Hold), hold
        assert hold.ask is not None
        if self.state.is_plain(hold):
            settlement = self.state.settlement(hold, CHARGES)
        else:
            settlement = await self.state.settlement_together(hold, CHARGES, ())
        self.state.settle(hold, settlement, next(self.seqs))

    async def each_once(self, accounts: int, in_flight: int) -> None:
        numbers = iter(range(accounts))

        async def some() -> None:
            for n in numbers:
                await self.request(n)

        await asyncio.gather(*[some() for _ in range(in_flight)])

    async def run(self, choose: Callable[[], int], in_flight: int, seconds: float) -> int:
        """So many requests at once; how many there were."""
        ends_s = time.monotonic() + seconds
        done = 0

        async def one_by_one() -> None:
            nonlocal done
            while time.monotonic() < ends_s:
                await self.request(choose())
                done += 1

        await asyncio.gather(*[one_by_one() for _ in range(in_flight)])
        return done

    def calls(self) -> int:
        line = self.valkey.command("INFO commandstats").decode().partition("evalsha:calls=")[2]
        return int(line.partition(",")[0])

    def memory(self) -> int:
        line = self.valkey.command("INFO memory").decode().partition("used_memory:")[2]
        return int(line.splitlines()[0])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all ways round by round, print medians, write state.json."""
    options = parse(arguments)
    valkey = Valkey().start()
    try:
        result = uvloop.run(measure(valkey, options))
    finally:
        valkey.stop()
    RESULTS.mkdir(exist_ok=True)
    found = {**facts(sys.executable), **vars(options), **result}
    (RESULTS / "state.json").write_text(json.dumps(found, indent=2) + "\n")
    return 0


async def measure(valkey: Valkey, options: argparse.Namespace) -> dict[str, Any]:
    own_core, server_core = two_cores()
    assert valkey.process is not None
    os.sched_setaffinity(valkey.process.pid, {server_core})
    os.sched_setaffinity(0, {own_core})
    server, own = psutil.Process(valkey.process.pid), psutil.Process()
    stage = Stage(valkey)
    dice = random.Random(1)
    weights = [1 / (n + 1) ** ZIPF for n in range(options.accounts)]
    sums = list(itertools.accumulate(weights))
    choices: dict[str, Callable[[], int]] = {
        "hot": lambda: 0,
        "plain": lambda: dice.randrange(100),
        "zipf": lambda: bisect.bisect(sums, dice.random() * sums[-1]),
        "uniform": lambda: dice.randrange(options.accounts),
    }
    await stage.request(0)
    before = stage.memory(), own.memory_info().rss
    for _ in range(WARM):
        await stage.each_once(options.accounts, options.in_flight)
    gc.collect()  # as a gateway does at its start (app.py)
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    kept = stage.memory() - before[0], own.memory_info().rss - before[1]
    memory = {"server": kept[0] / options.accounts, "own": kept[1] / options.accounts}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in choices}
    for _ in range(options.rounds):
        for name, choose in choices.items():
            await stage.run(choose, options.in_flight, 0.5)
            begun = cpu(server), cpu(own), stage.calls(), time.monotonic()
            done = await stage.run(choose, options.in_flight, options.seconds)
            runs[name].append(
                {
                    "server_us": (cpu(server) - begun[0]) / done * 1e6,
                    "own_us": (cpu(own) - begun[1]) / done * 1e6,
                    "requests_per_call": done / (stage.calls() - begun[2]),
                    "rps": done / (time.monotonic() - begun[3]),
                }
            )
    medians = {
        name: {key: statistics.median([run[key] for run in many]) for key in many[0]}
        for name, many in runs.items()
    }
    for name, figures in medians.items():
        ratios = [figures[key] / medians["plain"][key] for key in ("server_us", "own_us")]
        print(
            f"{name:<9} server {figures['server_us']:>5.1f} us ({ratios[0]:.2f})  this process"
            f" {figures['own_us']:>5.1f} us ({ratios[1]:.2f})  {figures['requests_per_call']:>5.1f}"
            f" requests a call  {figures['rps']:,.0f} requests/s"
        )
    for name, key in (("document", "a:account-0"), ("limit", f"lg:{LIMIT.id}:account-0")):
        memory[name] = await stage.server.command("MEMORY", "USAGE", f"bench{{0}}{key}")
    print(
        f"memory of an account: server {memory['server']:,.0f} bytes, of which document"
        f" {memory['document']} and limit {memory['limit']}; here {memory['own']:,.0f}"
    )
    await stage.link.stop(2.0)
    await stage.server.close()
    return {"memory": memory, "runs": runs}


def cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="alternating rounds (3)")
    parser.add_argument("--seconds", type=float, default=4, help="of each measurement (4)")
    parser.add_argument("--accounts", type=int, default=100_000, help="of the many (100000)")
    parser.add_argument("--in-flight", type=int, default=32, help="requests at once (32)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
