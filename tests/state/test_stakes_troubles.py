"""Stakes in trouble: replies that are lost, epochs that begin anew, the end of a period."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from gateway.core.book import Plan
from gateway.core.limits import Algorithm, RateLimit
from gateway.core.refusals import Refusal
from gateway.state.base import Hold
from gateway.state.shared.link import StateUnavailable
from tests.state.fleet import ACCOUNT, Process
from tests.state.shop import BOTH, NOW, ONE, Shop, holds, with_beads
from tests.state.stage import DAY, MONTH, WEEK, S, allowance, priced, us

MARCH = MONTH.span(NOW, 0, "UTC").start_us


def settle(shop: Shop, process: Process, some: Sequence[Hold]) -> None:
    for hold in some:
        settlement = process.state.settlement(hold, hold.charges)
        process.state.settle(hold, settlement, next(shop.seqs))


def ship(shop: Shop, coins: int) -> None:
    """The store has what was posted until now."""
    shop.store.post([("coins", coins, MARCH)], NOW)
    shop.shipped = {process.name: 99 for process in shop.processes}
    shop.seqs = itertools.count(100)


def test_more_than_fits_on_the_scripts_stack_is_done_in_parts(make: Callable[..., Shop]) -> None:
    shop = make(room=10**6)
    one, two = shop.processes
    asks = [shop.asking(one, ONE) for _ in range(9_000)]

    async def while_it_is_away() -> None:
        one.link.failure = "away"
        found = await asyncio.gather(*[one.state.admit_together(ask) for ask in asks])
        settle(shop, one, holds(list(found)))
        one.link.failure = ""

    shop.run(while_it_is_away())
    shop.hot.drain(one)
    assert shop.sum("u|") == 2 + 9_000
    assert len(holds(shop.ask(two, [ONE]))) == 1


def test_what_is_told_one_by_one_goes_before_all_that_came_later(
    make: Callable[..., Shop],
) -> None:
    weekly = Plan(
        "w", (allowance("coins", 100_000, WEEK, on_exhausted="overage", overage=priced(1)),)
    )
    shop = make(plan=weekly, now_us=us("2026-03-31"))
    one, two = shop.processes
    shop.now_us = us("2026-04-02")
    shop.end(two, [shop.one(two)])  # notes a mark: each has to say when it came
    shop.plainly()
    before = shop.sum("u|")
    held = holds(shop.ask(one, [ONE] * 900))

    async def many_at_once_and_others_meanwhile() -> None:
        settle(shop, one, held[:700])
        for n in range(700, 900, 4):
            settle(shop, one, held[n : n + 4])
            await asyncio.sleep(0.001)

    shop.run(many_at_once_and_others_meanwhile())
    shop.hot.drain(one)
    assert (shop.sum("u|") - before, shop.sum("h|")) == (900, 0)


def test_what_ended_before_its_document_was_begun_anew_is_held_no_more(
    make: Callable[..., Shop],
) -> None:
    shop = make(room=102)
    one, _ = shop.processes
    held = holds(shop.ask(one, [ONE] * 10))
    shop.run(one.tell(one.state.waiting(shop.tags[0], "1")))
    ship(shop, 2)
    shop.run(one.server.command("DEL", shop.key))
    shop.end(one, held[:6])
    shop.refresh(one)
    shop.hot.drain(one)
    assert (shop.sum("u|"), shop.sum("h|")) == (8, 4)
    shop.end(one, held[6:])
    assert (shop.sum("u|"), shop.sum("h|"), shop.fields("j|")) == (12, 0, {})


def test_a_reply_of_an_epoch_that_is_over_lets_nobody_in(make: Callable[..., Shop]) -> None:
    shop = make(room=12)
    one, two = shop.processes
    real, tag = one.server.run, shop.tags[0]
    taken = []

    async def run(keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        reply = await real(keys, arguments)
        if b'"take"' in arguments[2] and not taken:
            taken.append(reply)
            await one.server.command("DEL", f"{tag}epoch")
            await one.server.remove(f"{tag}a:*")
            await one.server.command("SET", f"{tag}epoch", "2")
            raise StateUnavailable("the reply was lost")
        return reply

    ship(shop, 2)
    one.server.run = run  # type: ignore[method-assign]
    first = holds(shop.ask(one, [ONE] * 10))
    second = holds(shop.ask(two, [ONE] * 10))
    assert (len(taken), len(first), len(second)) == (1, 10, 0)
    shop.end(one, first)
    assert (shop.sum("u|"), shop.sum("h|")) == (12, 0)


def test_what_is_given_back_while_the_server_is_away_is_given_back(
    make: Callable[..., Shop],
) -> None:
    shop = make(room=102)
    one, _ = shop.processes
    held = holds(shop.ask(one, [ONE] * 10))
    real = one.server.run

    async def away(keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        raise StateUnavailable("away")

    async def released() -> None:
        one.server.run = away  # type: ignore[method-assign]
        one.state.outdate(ACCOUNT)
        for hold in held:
            one.state.release(hold)
        await asyncio.sleep(0.3)
        one.server.run = real  # type: ignore[method-assign]
        await asyncio.sleep(0.3)

    shop.run(released())
    shop.hot.drain(one)
    state = one.state.loaded(ACCOUNT)
    assert state is not None
    assert (shop.sum("h|"), shop.fields("j|"), state.in_flight) == (0, {}, 0)


def test_a_request_of_before_a_periods_end_that_is_decided_after_it_is_let_in(
    make: Callable[..., Shop],
) -> None:
    end_us = us("2026-03-03")
    shop = make(plan=Plan("d", (allowance("coins", 100, DAY),)), now_us=end_us - S // 1000)
    one, _ = shop.processes
    ask = shop.asking(one, ONE)
    shop.now_us = end_us + S // 1000  # on the server's clock
    assert isinstance(shop.run(one.state.admit_together(ask)), Hold)


def test_what_was_given_back_while_a_document_was_awaited_is_not_paid(
    make: Callable[..., Shop],
) -> None:
    shop = make(room=102)
    one, _ = shop.processes
    held = holds(shop.ask(one, [ONE] * 10))
    ship(shop, 2)
    shop.run(one.server.command("DEL", shop.key))
    real = one.standing

    async def slowly(account_id: str) -> list[str | int]:
        await asyncio.sleep(0.05)
        return await real(account_id)

    async def meanwhile() -> None:
        one.standing = slowly  # type: ignore[method-assign]
        settle(shop, one, held[:1])
        while not one.state.behind():
            await asyncio.sleep(0)
        for hold in held[1:6]:
            one.state.release(hold)
        await asyncio.sleep(0.3)

    shop.run(meanwhile())
    shop.hot.drain(one)
    assert shop.sum("u|") == 3


def test_a_batch_that_the_script_cannot_do_holds_nobody_up(make: Callable[..., Shop]) -> None:
    shop = make(room=12)
    one, _ = shop.processes
    why: list[str] = []
    one.link.on_abandoned = why.append

    async def told() -> None:
        one.link.tell(["nonsense"], ())
        while not why:
            await asyncio.sleep(0.01)

    shop.run(told())
    assert "script" in why[0]
    found = shop.ask(one, [ONE] * 20)
    assert len(holds(found)) == 10
    assert isinstance(found[-1], Refusal)


@pytest.mark.parametrize(
    ("before", "after"),
    list(itertools.permutations(["gcra", "fixed_window", "concurrency"], 2)),
)
def test_a_limit_that_a_reload_counts_in_another_way_begins_anew(
    make: Callable[..., Shop], before: Algorithm, after: Algorithm
) -> None:
    shop = make(room=100)
    one, two = shop.processes
    one.state.allows = two.state.allows = False
    figures: Any = {"quota": 5, "period_us": 3600 * S, "burst": 5, "id": "plan/p/busy"}
    old, new = [RateLimit("busy", "account", kind, **figures) for kind in (before, after)]
    held = holds(shop.ask(one, [ONE] * 6, limits=(old,)))
    assert len(holds(shop.ask(two, [ONE] * 6, limits=(new,)))) == len(held) == 5
    shop.end(one, held)


def test_who_is_refused_while_the_copy_is_written_leaves_it_as_it_is_written(
    make: Callable[..., Shop],
) -> None:
    """What the script says then is of before."""
    shop = make(plan=with_beads(102))
    one, _ = shop.processes
    too_much = shop.asking(one, (("coins", 500),))
    shop.refresh(one)

    async def together() -> list[Hold | Refusal]:
        asks = [too_much, *[shop.asking(one, BOTH) for _ in range(3)]]
        return await asyncio.gather(*[one.state.admit_together(ask) for ask in asks])

    held = holds(shop.run(together()))
    held += holds(shop.ask(one, [BOTH]))
    assert len(held) == shop.sum("h|coins") == 4


def test_what_is_given_back_when_its_document_went_is_given_back_once(
    make: Callable[..., Shop],
) -> None:
    """And whoever else waits for the copy is not broken off, however often it is written."""
    shop = make(plan=with_beads(102))
    one, two = shop.processes
    (hold,) = holds(shop.ask(one, [BOTH]))
    ship(shop, 2)
    real, tries = one.server.run, []

    async def run(keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        if b'["write"' in arguments[2] and not tries:
            tries.append(arguments)
            other = await two.state.admit_together(shop.asking(two, ONE))
            assert isinstance(other, Hold)
            settle(shop, two, [other])
        return await real(keys, arguments)

    async def released() -> None:
        one.server.run = run  # type: ignore[method-assign]
        one.state.release(hold)
        assert one.state.waiting(shop.tags[0], "1") == []
        await one.server.command("DEL", shop.key)
        one.state.outdate(ACCOUNT)
        await one.state.shared(shop.bind(one)).refresh()

    shop.run(released())
    for process in shop.processes:
        shop.hot.drain(process)
    shop.refresh(one)
    assert len(tries) == 1
    assert (shop.sum("h|"), shop.fields("o|")) == (0, {})
    state = one.state.loaded(ACCOUNT)
    assert state is not None
    assert state.in_flight == 0
