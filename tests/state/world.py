"""A shop with a line that fails and epochs that begin anew, and the sum of what was paid."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from gateway.state.base import Hold, Posting
from gateway.state.shared.groups import GroupServer
from gateway.state.shared.link import StateUnavailable
from tests.state.fleet import Process
from tests.state.shop import NOW, Shop
from tests.state.stage import MONTH

MONTH_US = MONTH.span(NOW, 0, "UTC").start_us


class World:
    """What may happen to it. Random models say what does, and compare."""

    def __init__(self, shop: Shop, seed: int, faults: float, slow: float) -> None:
        """Shares of calls: `faults` that are not done, and as many whose reply is lost; `slow`."""
        self.shop = shop
        self.dice = random.Random(seed)
        self._faults = faults
        self._slow = slow
        self.is_calm = False  # no call fails, or is slow
        self.paid = 2  # by the first two requests
        self.unshipped: list[tuple[Process, int, Sequence[Posting]]] = []
        self.seqs = {process.name: itertools.count(100) for process in shop.processes}
        self.epochs = itertools.count(2)
        # What was posted before the world began is in the store.
        shop.store.post([("coins", 2, MONTH_US)], NOW)
        shop.shipped = {process.name: 99 for process in shop.processes}
        for process in shop.processes:
            process.state.allows = False
            process.link._renew_epoch = self._epoch_of(process.server)
            self._disturb(process)

    def _disturb(self, process: Process) -> None:
        real, dice = process.server.run, self.dice

        async def run(keys: Sequence[str], arguments: Sequence[Any]) -> Any:
            fate = 1.0 if self.is_calm else dice.random()
            if fate < self._faults:
                raise StateUnavailable("away")
            reply = await real(keys, arguments)
            if fate < 2 * self._faults:
                raise StateUnavailable("the reply was lost")
            if not self.is_calm and dice.random() < self._slow:
                await asyncio.sleep(dice.random() * 0.003)
            return reply

        process.server.run = run  # type: ignore[method-assign]

    def _epoch_of(self, server: GroupServer) -> Callable[[str], Awaitable[str]]:
        async def epoch(found: str) -> str:
            while not found:
                await asyncio.sleep(0.003)
                name = f"{self.shop.tags[0]}epoch"
                found = (await server.command("GET", name) or b"").decode()
            return found

        return epoch

    def ship(self, process: Process) -> None:
        for mine in [each for each in self.unshipped if each[0] is process]:
            self.unshipped.remove(mine)
            _, seq, postings = mine
            self.shop.store.post(postings)
            self.shop.shipped[process.name] = seq

    async def begin_anew(self) -> None:
        """As the barrier does: all tell and ship, then the documents go."""
        shop, server = self.shop, self.shop.processes[0].server
        tag, name = shop.tags[0], f"1.{next(self.epochs)}"
        await server.command("DEL", f"{tag}epoch")
        for process in self.dice.sample(shop.processes, len(shop.processes)):
            await asyncio.sleep(self.dice.random() * 0.003)
            await process.link.heard()
            told = process.state.waiting(tag, name)
            await asyncio.sleep(self.dice.random() * 0.01)
            self.ship(process)
            await process.tell(told)
        shop.now_us += 1
        await server.remove(f"{tag}a:*")
        await server.command("SET", f"{tag}epoch", name)

    async def pay(self, process: Process, hold: Hold) -> None:
        """All of it, or one unit less of some."""
        exact = tuple([(m, self.dice.choice([n, max(n - 1, 0)])) for m, n in hold.charges])
        charges = hold.charges if exact == hold.charges else exact
        state = process.state
        if state.is_plain(hold):
            settlement = state.settlement(hold, charges)
        else:
            settlement = await state.settlement_together(hold, charges, ())
        assert hold.ask is not None
        self.shop.settled.add(hold.ask.event_id)
        coins = sum([n for meter, n in charges if meter == "coins"])
        assert sum([part[1] for part in settlement.postings if part[0] == "coins"]) == coins
        self.paid += coins
        seq = next(self.seqs[process.name])
        self.unshipped.append((process, seq, settlement.postings))
        state.settle(hold, settlement, seq)
