"""Two processes at random, with a line that fails: at the end all adds up, and nothing is held.

Requests come in waves, are paid, paid in part or given back; copies are outdated; replies
are lost; epochs begin anew; units are given midway. The oracle is a sum.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import pytest

from gateway.state.base import Hold
from gateway.state.shared.link import StateUnavailable
from tests.state.fleet import ACCOUNT, Process
from tests.state.shop import FREE, ONE, TWO, Shop
from tests.state.test_stakes import PARALLEL
from tests.state.world import World

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


class Waves(World):
    """Requests that come, and end, together."""

    def __init__(self, kind: Kind, seed: int) -> None:
        super().__init__(Shop(room=ROOM), seed, kind.faults, slow=0.3)
        self.kind = kind
        self.open: list[tuple[Process, Hold]] = []

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
                self.is_calm = True
                shop.run(asyncio.sleep(0.3))
                shop.give("b1", BUNDLE, shop.now_us)
                self.is_calm = False
            shop.run(self.wave())
        self.is_calm = True
        shop.run(self.end())
        for process in shop.processes:
            shop.hot.drain(process)
            shop.refresh(process)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_at_the_end_all_adds_up(kind: Kind, seed: int) -> None:
    world = Waves(kind, seed)
    shop = world.shop
    try:
        world.play()
        assert shop.sum("u|") == world.paid
        assert world.paid <= ROOM + (BUNDLE if kind.has_bundle else 0)
        shop.assert_nothing_is_held()
    finally:
        shop.close()
