"""Who is far from the server is slower than others each time: it has its turn all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import pytest

from gateway.core.book import Plan
from gateway.state.base import Hold
from gateway.state.shared import account as account_module
from gateway.state.shared.link import Reply, Server
from gateway.state.shared.stake import KNOWS_MORE
from tests.state.fleet import Process
from tests.state.shop import ONE, Shop
from tests.state.stage import WEEK, S, allowance

# More than one number has a say, so each process works on its copy.
PLAN = Plan("p", (allowance("coins", 10_000), allowance("coins", 5_000, WEEK)))


@pytest.fixture
def shop() -> Iterator[Shop]:
    made = Shop(plan=PLAN)
    yield made
    made.close()


class Far:
    """A server that is 30 ms away."""

    def __init__(self, near: Server) -> None:
        self.near = near

    async def run(self, keys: Sequence[str], arguments: Sequence[str | int | bytes]) -> Reply:
        await asyncio.sleep(0.03)
        reply = await self.near.run(keys, arguments)
        await asyncio.sleep(0.03)
        return reply


async def pass_one(shop: Shop, process: Process) -> None:
    """A request from its begin to its end."""
    hold = await process.state.admit_together(shop.asking(process, ONE))
    assert isinstance(hold, Hold)
    settlement = await process.state.settlement_together(hold, hold.charges, ())
    process.state.settle(hold, settlement, next(shop.seqs))


def race(shop: Shop) -> int:
    """One process is near and never rests, until the far one has passed; how many it passed."""
    near, far = shop.processes
    far.link._server = Far(far.link._server)
    passed = 0

    async def run() -> None:
        nonlocal passed
        slow = asyncio.gather(*[pass_one(shop, far) for _ in range(3)])
        while not slow.done():
            await pass_one(shop, near)
            passed += 1
        await slow

    shop.run(run())
    for process in shop.processes:
        shop.hot.drain(process)
    return passed


def test_who_is_far_has_its_turn(shop: Shop) -> None:
    began = shop.sum("u|")
    passed = race(shop)
    assert shop.fields("w") == {}
    assert shop.sum("u|") - began == (passed + 3) * 2  # in two allowances
    assert shop.fields("o|") == {}


def test_a_turn_that_nobody_uses_ends(shop: Shop) -> None:
    near, _ = shop.processes
    now_us = shop.now_us
    shop.set("w", f"{now_us + S} somebody else")

    async def later() -> None:
        waiting = asyncio.ensure_future(pass_one(shop, near))
        await asyncio.sleep(3 * account_module.TURN_LOOK_S)
        assert not waiting.done()
        shop.now_us += S + 1
        await waiting

    shop.run(later())
    assert shop.fields("o|") == {}


def test_who_had_a_turn_and_did_not_use_it_has_the_next_one_later(shop: Shop) -> None:
    (near, _), began_us, kinds = shop.processes, shop.now_us, []

    def overtaken() -> str:
        step = ["write", shop.key, "0", "0", [], [], "who", S]
        kinds.append(shop.run(near.link.ask(step, (shop.key,)))[0])
        return shop.fields("w")["w"]

    first = overtaken()
    assert first == f"{began_us + S} who"
    shop.now_us = began_us + 2 * S
    assert overtaken() == first
    shop.now_us += 1
    assert overtaken() == f"{began_us + 3 * S + 1} who"
    assert kinds == [KNOWS_MORE] * 3
