"""Two processes at random, of which many requests come at once: what is taken ahead adds up.

The clients never pause for long, so something is ahead nearly always; meanwhile replies are
lost, epochs begin anew, copies are outdated, forms are dropped. The oracles are sums: of
what was paid, and of what was let in.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import NamedTuple

import pytest

from gateway.core.limits import RateLimit
from gateway.core.refusals import Refusal
from gateway.state.shared.link import Overtaken, StateUnavailable
from tests.state.fleet import ACCOUNT, Process
from tests.state.shop import BOTH, HELD, ONE, TWO, Shop, with_beads
from tests.state.stage import S
from tests.state.world import World

CLIENTS = 24  # of each process
WINDOW = RateLimit("w", "account", "fixed_window", 10**6, 3600 * S, 1, id="plan/p/w")
SECONDS = 0.8
PATIENCE_S = 10.0


class Kind(NamedTuple):
    """Shares of calls that fail, and of moments with which something else happens."""

    faults: float = 0.0
    epochs: float = 0.0
    changes: float = 0.0
    careful: float = 0.0


KINDS = {
    "calm": Kind(changes=0.2),
    "lost replies": Kind(faults=0.05, changes=0.1),
    "new epochs": Kind(epochs=0.1, changes=0.1),
    "on a copy": Kind(careful=0.1, changes=0.1),
    "all": Kind(faults=0.02, epochs=0.05, changes=0.1, careful=0.03),
}


class Crowd(World):
    """Clients that hardly pause."""

    def __init__(self, kind: Kind, room: int, seed: int) -> None:
        super().__init__(Shop(plan=with_beads(room)), seed, kind.faults, slow=0.2)
        self.kind = kind
        self.room = room
        self.refused = 0
        self.failed: Counter[str] = Counter()
        self.let_in = 0
        self.is_still = False  # the clock stands

    async def clock(self) -> None:
        loop = asyncio.get_running_loop()
        while not self.is_still:
            began_s = loop.time()
            await asyncio.sleep(0.001)
            self.shop.now_us += int((loop.time() - began_s) * 1e6)

    async def client(self, process: Process) -> None:
        dice, shop, state = self.dice, self.shop, process.state
        while not self.is_calm:
            kinds = [ONE] * 8 + [TWO]
            charges = BOTH if dice.random() < self.kind.careful else dice.choice(kinds)
            ask = shop.asking(process, charges, limits=(WINDOW,))
            try:
                found = state.admit_at_once(ask) or await state.admit_together(ask)
            except StateUnavailable as error:
                self.failed[type(error).__name__] += 1
                await asyncio.sleep(0.003)
                continue
            if isinstance(found, Refusal):
                self.refused += 1
                await asyncio.sleep(0.01)
                continue
            self.let_in += 1
            if dice.random() < 0.3:
                await asyncio.sleep(dice.random() * 0.004)
            if dice.random() < 0.2:
                state.release(found)
            else:
                await self.pay(process, found)
            if dice.random() < 0.02:
                await asyncio.sleep(dice.random() * 0.05)

    async def troubles(self) -> None:
        dice, shop, kind = self.dice, self.shop, self.kind
        while not self.is_calm:
            await asyncio.sleep(0.01)
            if dice.random() < kind.epochs:
                await self.begin_anew()
            if dice.random() < kind.changes:
                dice.choice(shop.processes).state.outdate(ACCOUNT)
            if dice.random() < kind.changes:
                dice.choice(shop.processes).state.drop_forms()
            fields = await shop.processes[0].server.command("HGETALL", shop.key)
            sums = {k.decode(): v for k, v in fields.items() if k[:2] in (b"h|", b"k|", b"u|")}
            assert all(int(value) >= 0 for value in sums.values()), sums
            coins = [int(v) for k, v in sums.items() if k[:7] in ("u|coins", "h|coins")]
            if not (kind.faults and kind.epochs):  # else some may be held twice for a moment
                assert sum(coins) <= self.room, sums

    async def play(self) -> None:
        processes = self.shop.processes
        clients = [self.client(process) for process in processes for _ in range(CLIENTS)]
        tasks = [asyncio.ensure_future(each) for each in (self.troubles(), *clients)]
        ticking = asyncio.ensure_future(self.clock())
        await asyncio.wait(tasks, timeout=SECONDS, return_when=asyncio.FIRST_EXCEPTION)
        self.is_calm = True
        await asyncio.gather(*tasks)
        while any(process.state.behind() or self.is_busy(process) for process in processes):
            await asyncio.sleep(0.01)
        self.is_still = True
        await ticking
        await self.settle_down()

    async def settle_down(self) -> None:
        """Until nothing is held: all is given back, or runs out where a reply was lost."""
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + PATIENCE_S
        while loop.time() < give_up_s:
            for process in self.shop.processes:
                with suppress(Overtaken):
                    await process.state.shared(self.shop.bind(process)).refresh()
            fields = await self.shop.processes[0].server.command("HGETALL", self.shop.key)
            if not any(v != b"0" for k, v in fields.items() if k[:2].decode() in HELD):
                return
            if self.kind.faults:
                self.shop.now_us += S
            await asyncio.sleep(0.1)

    def is_busy(self, process: Process) -> bool:
        shared = process.state.shared(self.shop.bind(process))
        return process.is_busy or shared.is_busy or process.has_ahead(shared)

    def counted(self) -> int:
        """By the window."""
        key = f"{self.shop.tags[0]}lf:{WINDOW.id}:{ACCOUNT}"
        found = self.shop.run(self.shop.processes[0].server.command("GET", key))
        return int(found.split()[1])


@pytest.mark.parametrize("room", [400, 10**6])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_at_the_end_all_adds_up(kind: Kind, room: int) -> None:
    world = Crowd(kind, room, seed=room)
    shop = world.shop
    try:
        shop.run(world.play())
        assert shop.sum("u|coins") == world.paid <= room
        shop.assert_nothing_is_held()
        assert world.counted() >= world.let_in
        if not (kind.epochs and kind.faults):  # else it may not know whether the window is there
            assert world.counted() == world.let_in
        assert kind.faults or kind.epochs or not world.failed
        if world.refused and not kind.epochs:
            assert world.paid > room - 4 * CLIENTS
    finally:
        shop.close()
