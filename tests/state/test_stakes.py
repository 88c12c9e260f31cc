"""Requests that ask and end together: what a process holds for them in sum, and who loses it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.core.book import Plan
from gateway.core.limits import RateLimit
from gateway.state.base import Hold
from tests.state.fleet import Process
from tests.state.shop import FREE, NOW, ONE, TWO, Shop, holds
from tests.state.stage import WEEK, S, allowance, priced, us

HOURLY = RateLimit("hourly", "account", "fixed_window", 5, 3600 * S, 1, id="plan/p/hourly")
PARALLEL = RateLimit("parallel", "key", "concurrency", 3, 0, 1, id="plan/p/parallel")
STEADY = RateLimit("steady", "source", "gcra", 60, 60 * S, 4, id="plan/p/steady")
LIMITS = {"window": (HOURLY,), "in flight": (PARALLEL,), "bucket": (STEADY,)}


@pytest.fixture
def shop(request: pytest.FixtureRequest) -> Iterator[Shop]:
    made = Shop(getattr(request, "param", 12))
    yield made
    made.close()


def test_what_ends_at_once_was_used_before_the_month_that_another_has_begun() -> None:
    """Their sum does not tell when each came, so they are told one by one."""
    weekly = Plan("w", (allowance("coins", 10, WEEK, on_exhausted="overage", overage=priced(1)),))
    shop = Shop(plan=weekly, now_us=us("2026-03-31"))
    try:
        one, two = shop.processes
        held = holds(shop.ask(one, [TWO] * 3))
        shop.now_us = us("2026-04-02")
        shop.end(two, [shop.one(two)])
        (mark,) = shop.fields("m|")
        assert shop.fields(mark)[mark] == "2"
        shop.end(one, held[:1])
        shop.end(one, held[1:])
        assert shop.fields(mark)[mark] == "8"
        assert (shop.sum("u|"), shop.sum("h|")) == (9, 0)
    finally:
        shop.close()


def test_requests_that_come_at_once_are_one_sum_and_as_many_as_fit(shop: Shop) -> None:
    one, two = shop.processes
    found = shop.ask(one, [ONE] * 30)
    assert [isinstance(each, Hold) for each in found] == [True] * 10 + [False] * 20
    (stake,) = shop.fields("j|").values()
    assert stake.split()[2] == "10"
    assert (shop.sum("k|"), shop.sum("h|"), shop.fields("o|")) == (10, 10, {})
    assert holds(shop.ask(two, [ONE])) == []
    shop.end(one, holds(found))
    assert (shop.sum("u|"), shop.sum("h|"), shop.fields("j|"), shop.fields("k|")) == (12, 0, {}, {})


def test_forms_with_other_amounts_share_one_room(shop: Shop) -> None:
    one, _ = shop.processes
    found = holds(shop.ask(one, [TWO, ONE] * 20))
    assert shop.sum("h|") == shop.sum("k|") == 10
    shop.end(one, found)
    assert (shop.sum("u|"), shop.sum("h|")) == (12, 0)


def test_what_costs_nothing_passes_until_the_room_is_overdrawn(shop: Shop) -> None:
    one, _ = shop.processes
    assert len(holds(shop.ask(one, [ONE] * 10))) == 10
    assert len(holds(shop.ask(one, [FREE] * 3))) == 3


@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS)
def test_limits_count_those_who_come_at_once(shop: Shop, limits: tuple[RateLimit, ...]) -> None:
    one, two = shop.processes
    most = {"hourly": 5, "parallel": 3, "steady": 4}[limits[0].name]
    found = holds(shop.ask(one, [ONE] * 9, limits=limits))
    assert len(found) == most
    assert holds(shop.ask(two, [ONE] * 9, limits=limits)) == []
    shop.end(one, found)
    again = holds(shop.ask(two, [ONE] * 9, limits=limits))
    assert len(again) == (3 if limits == (PARALLEL,) else 0)


def test_a_stake_that_ran_out_is_free_and_its_requests_are_paid_all_the_same(shop: Shop) -> None:
    one, two = shop.processes
    held = holds(shop.ask(one, [ONE] * 10))
    (life,) = shop.fields("j|")
    shop.set(life, "1 1 10")
    shop.set("x", "1")
    taken = holds(shop.ask(two, [ONE] * 10))  # nobody heard of it for too long
    assert len(taken) == 10
    shop.end(one, held[:4])
    assert (shop.sum("u|"), shop.sum("h|")) == (6, 10)
    shop.end(two, taken[:8])
    assert holds(shop.ask(one, [ONE])) == []
    shop.end(two, taken[8:])
    shop.end(one, held[4:])
    assert (shop.sum("u|"), shop.sum("h|"), shop.fields("j|")) == (22, 0, {})


def test_after_a_stake_was_let_go_of_another_begins(shop: Shop) -> None:
    one, _ = shop.processes
    held = shop.one(one)
    (life,) = shop.fields("j|")
    shop.run(one.server.command("HDEL", shop.key, life, *shop.fields("k|")))
    shop.set(next(iter(shop.fields("h|"))), "0")
    new = shop.one(one)
    (other,) = shop.fields("j|")
    assert other != life
    shop.end(one, [held])
    assert shop.sum("h|") == 1
    shop.end(one, [new])
    assert (shop.sum("h|"), shop.sum("u|")) == (0, 4)


def test_what_the_store_has_already_counts_once_though_it_is_told_in_one(shop: Shop) -> None:
    one, _ = shop.processes
    held = holds(shop.ask(one, [ONE] * 5))
    # The document is lost before it hears of them; the store has two of the five by then.
    shop.run(one.server.command("DEL", shop.key))
    shop.shipped = {one.name: shop.paid[-1][0] + 2}
    shop.store.post([("coins", 4, held[0].reserved[0][0].span.start_us)], NOW)
    shop.end(one, held)
    shop.refresh(one)
    shop.hot.drain(one)
    assert (shop.sum("u|"), shop.sum("h|")) == (7, 0)


def test_some_that_are_new_are_told_one_by_one(shop: Shop) -> None:
    one, _ = shop.processes
    held = holds(shop.ask(one, [ONE] * 5))
    journal = f"p|{one.name}"
    known = int(shop.fields(journal)[journal])
    shop.set(journal, str(known + 4))  # as a document that was begun anew may say
    shop.end(one, held)
    behind = len([seq for seq, _ in shop.paid[2:] if seq <= known + 4])
    assert 0 < behind < 5
    assert (shop.sum("u|"), shop.sum("h|"), shop.fields("j|")) == (2 + 5 - behind, 0, {})


def test_a_request_that_nobody_waits_for_any_more_gives_back(shop: Shop) -> None:
    one, _ = shop.processes
    asks = [shop.asking(one, ONE, limits=(HOURLY, PARALLEL)) for _ in range(3)]

    async def one_leaves() -> list[Any]:
        tasks = [asyncio.ensure_future(one.state.admit_together(ask)) for ask in asks]
        await asyncio.sleep(0)
        tasks[1].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = [each for each in shop.run(one_leaves()) if isinstance(each, Hold)]
    shop.hot.drain(one)
    assert len(found) == 2
    assert (shop.sum("h|"), shop.sum("k|")) == (2, 2)
    shop.end(one, found)
    again = shop.ask(one, [ONE] * 9, limits=(HOURLY, PARALLEL))
    assert len(holds(again)) == 3  # of the five of an hour, two were used


def test_open_requests_wait_for_a_document_that_is_begun_anew(shop: Shop) -> None:
    one, two = shop.processes
    held = holds(shop.ask(one, [ONE] * 7))
    shop.end(one, held[:2])
    shop.run(one.tell(one.state.waiting(shop.tags[0], "1")))
    shop.shipped = {one.name: shop.paid[-1][0]}
    shop.store.post([("coins", 4, held[0].reserved[0][0].span.start_us)], NOW)
    shop.lose()
    found = holds(shop.ask(two, [ONE] * 9))
    assert len(found) == 3
    shop.end(two, found)
    shop.end(one, held[2:])
    assert (shop.sum("u|"), shop.sum("h|"), shop.fields("j|")) == (12, 0, {})


@pytest.mark.parametrize("shop", [200], indirect=True)
@pytest.mark.parametrize("seed", range(3))
def test_any_mixture_is_counted_to_the_unit(shop: Shop, seed: int) -> None:
    """Two processes at once, waves of requests, some given back; the account's room is the end."""
    dice = random.Random(seed)
    limits: tuple[tuple[RateLimit, ...], ...] = ((), (PARALLEL,))
    open_: list[tuple[Process, Hold]] = []
    used = 2

    async def wave() -> None:
        nonlocal used
        asked: list[Any] = []
        for process in shop.processes:
            for _ in range(dice.randrange(12)):
                ask = shop.asking(process, dice.choice([ONE, TWO]), limits=dice.choice(limits))
                asked.append((process, asyncio.ensure_future(process.state.admit_together(ask))))
        for _ in range(dice.randrange(len(open_) + 1)):
            process, hold = open_.pop(dice.randrange(len(open_)))
            if dice.random() < 0.2:
                process.state.release(hold)
                continue
            settlement = process.state.settlement(hold, hold.charges)
            used += hold.charges[0][1]
            process.state.settle(hold, settlement, next(shop.seqs))
        for process, asking in asked:
            found = await asking
            if isinstance(found, Hold):
                open_.append((process, found))

    for _ in range(25):
        shop.run(wave())
        assert shop.sum("u|") + shop.sum("h|") <= 200
    for process in shop.processes:
        shop.hot.drain(process)
    assert shop.sum("u|") == used
    assert shop.sum("h|") == shop.sum("k|") == sum(h.charges[0][1] for _, h in open_)


def test_who_was_frozen_renews_what_it_still_holds(shop: Shop) -> None:
    one, two = shop.processes
    held = holds(shop.ask(one, [ONE] * 10))
    (life,) = shop.fields("j|")
    shop.set(life, "1 1 10")
    shop.set("x", "1")
    assert [each.code for each in shop.ask(one, [ONE] * 2)] == ["budget_exhausted"] * 2  # type: ignore[union-attr]
    assert holds(shop.ask(two, [ONE])) == []
    shop.end(one, held)
    assert (shop.sum("u|"), shop.sum("h|")) == (12, 0)
