"""Two processes that share an account, and many requests that come at once."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from gateway.core.book import Plan
from gateway.core.refusals import Refusal
from gateway.state.base import Hold
from tests.state.fleet import ACCOUNT, Fleet, Process
from tests.state.stage import DAY, allowance, us
from tests.support.asking import Asking

NOW = us("2026-03-02T12:00")
ONE, TWO, FREE = (("coins", 1),), (("coins", 2),), (("coins", 0),)
BOTH = (("coins", 1), ("beads", 1))
BEADS = 1_000_000
# Of the document: holds, stakes, and what they have of each balance.
HELD = ("h|", "j|", "k|", "o|")


def with_beads(coins: int) -> Plan:
    """One number decides on coins; on beads more than one."""
    return Plan(
        "p", (allowance("coins", coins), allowance("beads", BEADS), allowance("beads", BEADS, DAY))
    )


class Shop(Fleet):
    """Two processes, and requests that come at once."""

    def __init__(
        self, room: int = 12, plan: Plan | None = None, now_us: int = NOW, **more: Any
    ) -> None:
        super().__init__(plan or Plan("p", (allowance("coins", room),)), from_us=now_us, **more)
        self.seqs = itertools.count(1)
        self.paid: list[tuple[int, int]] = []
        self.plainly()

    def plainly(self) -> None:
        """Every process has read the document."""
        for process in self.processes:
            self.end(process, [self.one(process)])

    def one(self, process: Process, charges: Any = ONE, **more: Any) -> Hold:
        (found,) = self.ask(process, [charges], **more)
        assert isinstance(found, Hold)
        return found

    def asking(self, process: Process, charges: Any, **more: Any) -> Asking:
        state = self.bind(process)
        return Asking(state, self.now_us, charges, event_id=f"e{next(self.asks)}", **more)

    def ask(self, process: Process, wanted: list[Any], **more: Any) -> list[Hold | Refusal]:
        asks = [self.asking(process, charges, **more) for charges in wanted]

        async def together() -> list[Hold | Refusal]:
            return await asyncio.gather(*[process.state.admit_together(ask) for ask in asks])

        return self.run(together())

    def end(self, process: Process, holds: list[Any]) -> None:
        async def ended() -> None:
            for hold in holds:
                settlement = process.state.settlement(hold, hold.charges)
                seq = next(self.seqs)
                self.paid.append((seq, sum(posting[1] for posting in settlement.postings)))
                process.state.settle(hold, settlement, seq)

        self.run(ended())
        self.hot.drain(process)

    def fields(self, kind: str) -> dict[str, str]:
        """Of the document."""
        found = self.run(self.processes[0].server.command("HGETALL", self.key))
        return {k.decode(): v.decode() for k, v in found.items() if k.decode().startswith(kind)}

    def sum(self, kind: str) -> int:
        return sum(map(int, self.fields(kind).values()))

    def assert_nothing_is_held(self) -> None:
        for kind in HELD:
            left = {name: value for name, value in self.fields(kind).items() if value != "0"}
            assert left == {}, left
        for process in self.processes:
            state = process.state.loaded(ACCOUNT)
            assert state is not None
            assert state.in_flight == 0, (process.name, state.in_flight)

    def set(self, name: str, value: str) -> None:
        self.run(self.processes[0].server.command("HSET", self.key, name, value))


def holds(found: list[Hold | Refusal]) -> list[Hold]:
    return [each for each in found if isinstance(each, Hold)]
