"""Two processes at random, with a line that fails: at the end all adds up, and nothing is held.

Requests come in waves, are paid, paid in part or given back; copies are outdated; replies
are lost; epochs begin anew; units are given midway. The oracle is a sum.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import pytest

from gateway.state.base import Hold, Posting
from gateway.state.shared.groups import GroupServer
from gateway.state.shared.link import StateUnavailable
from tests.state.fleet import ACCOUNT, Process
from tests.state.stage import MONTH
from tests.state.test_stakes import FREE, NOW, ONE, PARALLEL, TWO, Shop

ROOM = 120
WAVES = 20
BUNDLE = 40


class Kind(NamedTuple):
    """Shares of calls that fail, and of waves with which an epoch begins anew."""

    faults: float = 0.0
    epochs: float = 0.0
    has_bundle: bool = False


KINDS = {
    "calm": Kind(),
    "lost replies": Kind(faults=0.12),
    "new epochs": Kind(faults=0.1, epochs=0.3),
    "a bundle": Kind(faults=0.08, has_bundle=True),
}


class World:
    """What happens, and the sum of it."""

    def __init__(self, kind: Kind, seed: int) -> None:
        self.kind = kind
        self.dice = random.Random(seed)
        self.shop = Shop(room=ROOM)
        self.paid = 2  # by the first two requests
        self.is_faulty = True
        self.open: list[tuple[Process, Hold]] = []
        self.unshipped: list[tuple[Process, int, Sequence[Posting]]] = []
        self.seqs = {process.name: itertools.count(100) for process in self.shop.processes}
        self.epochs = itertools.count(2)
        # What was posted before the world began is in the store.
        month_us = MONTH.span(NOW, 0, "UTC").start_us
        self.shop.store.post([("coins", 2, month_us)], NOW)
        self.shop.shipped = {process.name: 99 for process in self.shop.processes}
        for process in self.shop.processes:
            process.state.allows = False
            process.link._renew_epoch = self._epoch_of(process.server)
            self._disturb(process)

    def _disturb(self, process: Process) -> None:
        real, dice = process.server.run, self.dice

        async def run(keys: Sequence[str], arguments: Sequence[Any]) -> Any:
            fate = dice.random() if self.is_faulty else 1.0
            if fate < self.kind.faults:
                raise StateUnavailable("away")
            reply = await real(keys, arguments)
            if fate < 2 * self.kind.faults:
                raise StateUnavailable("the reply was lost")
            if self.is_faulty and dice.random() < 0.3:
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
        """As the barrier does: all ship and tell, then the documents go."""
        shop, server = self.shop, self.shop.processes[0].server
        tag, name = shop.tags[0], str(next(self.epochs))
        await server.command("DEL", f"{tag}epoch")
        for process in self.dice.sample(shop.processes, len(shop.processes)):
            await asyncio.sleep(self.dice.random() * 0.003)
            self.ship(process)
            for key, body in process.state.waiting(tag, name):
                await process.server.command("RPUSH", key, body)
        shop.now_us += 1
        await server.remove(f"{tag}a:*")
        await server.command("SET", f"{tag}epoch", name)

    async def pay(self, process: Process, hold: Hold) -> None:
        exact = tuple([(meter, self.dice.choice([n, max(n - 1, 0)])) for meter, n in hold.charges])
        charges = hold.charges if exact == hold.charges else exact
        state = process.state
        if state.is_plain(hold):
            settlement = state.settlement(hold, charges)
        else:
            settlement = await state.settlement_together(hold, charges, ())
        assert hold.ask is not None
        self.shop.settled.add(hold.ask.event_id)
        assert sum([part[1] for part in settlement.postings]) == sum([n for _, n in charges])
        self.paid += sum([n for _, n in charges])
        seq = next(self.seqs[process.name])
        self.unshipped.append((process, seq, settlement.postings))
        state.settle(hold, settlement, seq)

    async def wave(self) -> None:
        dice, shop = self.dice, self.shop
        anew = [self.begin_anew()] if dice.random() < self.kind.epochs else []
        begun = [asyncio.ensure_future(each) for each in anew]
        asked = []
        for process in shop.processes:
            for _ in range(dice.randrange(12)):
                limits = dice.choice(((), (PARALLEL,)))
                ask = shop.asking(process, dice.choice([ONE, TWO, FREE]), limits=limits)
                asked.append((process, asyncio.ensure_future(process.state.admit_together(ask))))
            if dice.random() < 0.3:
                process.state.outdate(ACCOUNT)
        ends = []
        for _ in range(dice.randrange(len(self.open) + 1)):
            process, hold = self.open.pop(dice.randrange(len(self.open)))
            if dice.random() < 0.2:
                process.state.release(hold)
            else:
                ends.append(asyncio.ensure_future(self.pay(process, hold)))
        for process, asking in asked:
            try:
                found = await asking
            except StateUnavailable:
                continue
            if isinstance(found, Hold):
                self.open.append((process, found))
        await asyncio.gather(*ends, *begun)

    async def end(self) -> None:
        await asyncio.sleep(0.3)
        for process, hold in self.open:
            await self.pay(process, hold)
        while any(process.state.behind() for process in self.shop.processes):
            await asyncio.sleep(0.01)

    def play(self) -> None:
        shop = self.shop
        for n in range(WAVES):
            if self.kind.has_bundle and n == WAVES // 2:
                self.is_faulty = False
                shop.run(asyncio.sleep(0.3))
                shop.give("b1", BUNDLE, shop.now_us)
                self.is_faulty = True
            shop.run(self.wave())
        self.is_faulty = False
        shop.run(self.end())
        for process in shop.processes:
            shop.hot.drain(process)
            shop.refresh(process)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_at_the_end_all_adds_up(kind: Kind, seed: int) -> None:
    world = World(kind, seed)
    shop = world.shop
    try:
        world.play()
        assert shop.sum("u|") == world.paid
        assert world.paid <= ROOM + (BUNDLE if kind.has_bundle else 0)
        for what in ("h|", "j|", "k|", "o|"):
            assert [value for value in shop.fields(what).values() if value != "0"] == []
        for process in shop.processes:
            state = process.state.loaded(ACCOUNT)
            assert state is not None
            assert state.in_flight == 0
    finally:
        shop.close()
