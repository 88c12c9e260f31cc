"""What a process tells of its open requests as an epoch begins: each of them once, or as used."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from gateway.core.limits import RateLimit
from gateway.state.base import Hold
from gateway.state.shared.barrier import Barrier
from gateway.state.shared.groups import Agreement
from gateway.state.shared.stake import StakeHold
from tests.state.fleet import ACCOUNT, Process
from tests.state.shop import BOTH, ONE, Shop, holds, with_beads
from tests.state.test_stakes_troubles import MARCH, settle, ship

FIRST = 2  # coins, by the first two requests of a shop

Told = list[tuple[str, str]]


class Here:
    """What a barrier asks of a gateway. Implements barrier.Here."""

    def __init__(self, process: Process, ships: Callable[[], Awaitable[None]]) -> None:
        """`ships` may take its time, and others may do something meanwhile."""
        self._process = process
        self.ship = ships
        self.asked = 0  # times

    async def waiting(self, tag: str, epoch: str) -> Told:
        self.asked += 1
        await self._process.link.heard()
        return self._process.state.waiting(tag, epoch)

    def begun(self, tag: str, epoch: str, without: list[str]) -> None:
        assert without == []


def barrier_of(
    shop: Shop, process: Process, ships: Callable[[], Awaitable[None]]
) -> tuple[Barrier, Here]:
    tag, here = shop.tags[0], Here(process, ships)
    agreement = Agreement([process.server], [tag], process.name)
    return Barrier(process.server, tag, process.name, here, agreement), here


async def begin(shop: Shop, process: Process, tell: Callable[[str], Awaitable[Told]]) -> None:
    """As the barrier does, with what one process tells."""
    command, tag = process.server.command, shop.tags[0]
    await command("DEL", f"{tag}epoch")
    told = await tell("2")
    await process.tell(told)
    for key, _ in told:
        await command("PEXPIRE", key, shop.lease_us // 1000)
    await process.server.remove(f"{tag}a:*")
    await command("SET", f"{tag}epoch", "2")


def assert_nothing_is_left(shop: Shop) -> None:
    for process in shop.processes:
        shop.hot.drain(process)
        shop.refresh(process)
    shop.assert_nothing_is_held()


def test_what_ends_while_the_rest_is_shipped_is_counted_when_the_document_begins(
    make: Callable[..., Shop],
) -> None:
    """Another process lets nobody in on top of it, although nothing of it was told yet."""
    shop = make(room=FIRST + 10)
    one, two = shop.processes
    held = holds(shop.ask(one, [ONE] * 10))
    ship(shop, FIRST)
    real, is_let_go = one.server.run, asyncio.Event()

    async def slowly(keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        await is_let_go.wait()
        return await real(keys, arguments)

    async def ships() -> None:
        """What ends then is not in the store."""
        one.server.run = slowly  # type: ignore[method-assign]
        settle(shop, one, held)

    barrier, _ = barrier_of(shop, one, ships)
    shop.run(barrier.epoch(""))
    assert holds(shop.ask(two, [ONE] * 10)) == []
    is_let_go.set()
    assert_nothing_is_left(shop)
    assert shop.sum("u|") == FIRST + 10
    assert holds(shop.ask(two, [ONE])) == []


@pytest.mark.parametrize("room", [1, 50])
def test_who_is_being_let_in_as_an_epoch_begins_is_held_once(
    make: Callable[..., Shop], room: int
) -> None:
    shop = make(plan=with_beads(FIRST + room))
    one, _ = shop.processes
    ship(shop, FIRST)
    shop.refresh(one)
    real, tries = one.server.run, []

    async def tell(epoch: str) -> Told:
        return one.state.waiting(shop.tags[0], epoch)

    async def run(keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        if b'["write"' in arguments[2] and not tries:
            tries.append(arguments)
            await begin(shop, one, tell)
        return await real(keys, arguments)

    one.server.run = run  # type: ignore[method-assign]
    (hold,) = holds(shop.ask(one, [BOTH]))
    assert (len(tries), shop.sum("h|coins")) == (1, 1)
    shop.run(pay(shop, one, hold))
    assert_nothing_is_left(shop)
    assert shop.sum("u|coins") == FIRST + 1


@pytest.mark.parametrize("charges", [ONE, BOTH], ids=["of a stake", "alone"])
def test_what_was_settled_as_an_epoch_begins_is_held_no_more(
    make: Callable[..., Shop], charges: Any
) -> None:
    """Its request has not heard of it when the process tells."""
    shop = make(plan=with_beads(FIRST + 50))
    one, _ = shop.processes
    held = holds(shop.ask(one, [charges] * 3))
    ship(shop, FIRST)
    real, began = one.server.run, list[asyncio.Task[None]]()

    async def tell(epoch: str) -> Told:
        await one.link.heard()
        assert not any(hold.is_open for hold in held)  # all are in the journal, which is shipped
        shop.store.post([("coins", len(held), MARCH)])
        shop.shipped[one.name] = next(shop.seqs)
        return one.state.waiting(shop.tags[0], epoch)

    async def run(keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        reply = await real(keys, arguments)
        if b'["write"' in arguments[2] and not began:
            began.append(asyncio.ensure_future(begin(shop, one, tell)))
            await asyncio.sleep(0.05)  # the reply is on its way
        return reply

    async def paid() -> None:
        one.server.run = run  # type: ignore[method-assign]
        one.state.outdate(ACCOUNT)
        await asyncio.gather(*[pay(shop, one, hold) for hold in held])
        await asyncio.gather(*began)

    shop.run(paid())
    assert len(began) == 1
    assert_nothing_is_left(shop)
    assert shop.sum("u|coins") == FIRST + len(held)


@pytest.mark.parametrize("charges", [ONE, BOTH], ids=["in a stake", "alone"])
def test_who_goes_on_for_longer_than_a_lease_stays_held_although_nobody_else_comes(
    make: Callable[..., Shop], charges: Any
) -> None:
    """The document begins while what waits for it is there."""
    lease_us = 400_000
    shop = make(plan=with_beads(FIRST + 10), lease_us=lease_us)
    one, two = shop.processes
    held = holds(shop.ask(one, [charges] * 3))
    ship(shop, FIRST)

    async def tell(epoch: str) -> Told:
        return one.state.waiting(shop.tags[0], epoch)

    shop.run(begin(shop, one, tell))
    for _ in range(5):
        shop.run(asyncio.sleep(lease_us / 3 / 1_000_000))
        shop.advance(shop.now_us + lease_us // 3)
    assert len(holds(shop.ask(two, [ONE] * 10))) == 10 - len(held)


def test_who_is_in_flight_when_the_server_is_emptied_is_counted_again(
    make: Callable[..., Shop],
) -> None:
    limits = (RateLimit("busy", "key", "concurrency", 5, 0, 1, id="plan/p/busy"),)
    shop = make(plan=with_beads(FIRST + 20))
    one, two = shop.processes
    held = holds(shop.ask(one, [ONE] * 3, limits=limits))
    (first, *_) = held
    assert isinstance(first, StakeHold)
    (gauge,) = first.form.gauges
    shop.run(one.server.command("DEL", gauge))
    shop.advance(shop.now_us + shop.lease_us // 3)
    others = holds(shop.ask(two, [ONE] * 5, limits=limits))
    assert len(others) == 5 - len(held)
    shop.end(one, held)
    others += holds(shop.ask(two, [ONE] * 5, limits=limits))
    assert len(others) == 5
    shop.end(two, others)
    shop.advance(shop.now_us + shop.lease_us // 3)
    assert shop.run(one.server.command("EXISTS", gauge)) == 0


def test_a_request_that_ends_as_it_is_renewed_is_in_flight_no_more(
    make: Callable[..., Shop],
) -> None:
    """Its end goes with that of another one, in a step that was put before."""
    limits = (RateLimit("busy", "key", "concurrency", 5, 0, 1, id="plan/p/busy"),)
    shop = make(room=FIRST + 20)
    one, _ = shop.processes
    held = holds(shop.ask(one, [ONE] * 2, limits=limits))
    (first, *_) = held
    assert isinstance(first, StakeHold)
    (gauge,) = first.form.gauges

    async def at_once() -> None:
        settle(shop, one, held[:1])
        one.state.renew(shop.now_us + 1)
        settle(shop, one, held[1:])

    shop.run(at_once())
    assert_nothing_is_left(shop)
    assert shop.run(one.server.command("EXISTS", gauge)) == 0


def test_what_is_open_is_told_once_whoever_hears_first_that_it_is_to_be_told(
    make: Callable[..., Shop],
) -> None:
    """The line, which begins the epoch, and the beat, which answers to those that do."""
    shop = make(room=FIRST + 10)
    one, _ = shop.processes
    held = holds(shop.ask(one, [ONE] * 3))
    ship(shop, FIRST)

    async def ships() -> None:
        await asyncio.sleep(0.2)

    barrier, here = barrier_of(shop, one, ships)

    async def together() -> None:
        beginning = asyncio.ensure_future(barrier.epoch(""))
        while not here.asked:
            await asyncio.sleep(0)
        await barrier.beat()
        await beginning

    shop.run(together())
    shop.refresh(one)
    assert here.asked == 1
    assert (shop.sum("h|"), len(shop.fields("j|"))) == (3, 1)
    shop.end(one, held)
    assert_nothing_is_left(shop)


def test_who_tells_when_the_epoch_has_begun_makes_another_one_begin(
    make: Callable[..., Shop],
) -> None:
    shop = make(room=FIRST + 10)
    one, two = shop.processes
    is_shipped = asyncio.Event()

    async def ships() -> None: ...

    async def ships_late() -> None:
        await is_shipped.wait()

    first, _ = barrier_of(shop, one, ships)
    late, here = barrier_of(shop, two, ships_late)
    command, tag = one.server.command, shop.tags[0]

    async def together() -> bool:
        await late.epoch(await first.epoch(""))
        await command("DEL", f"{tag}epoch")
        beginning = asyncio.ensure_future(first.epoch(""))
        while not await command("EXISTS", f"{tag}rebuild"):
            await asyncio.sleep(0)
        beating = asyncio.ensure_future(late.beat())
        while not here.asked:
            await asyncio.sleep(0)
        await late.leave()  # it was not heard for so long
        await beginning
        is_shipped.set()
        await beating
        return await late.beat()

    assert shop.run(together()) is False


async def pay(shop: Shop, process: Process, hold: Hold) -> None:
    state = process.state
    assert hold.ask is not None
    shop.settled.add(hold.ask.event_id)
    settlement = await state.settlement_together(hold, hold.charges, ())
    state.settle(hold, settlement, next(shop.seqs))
