"""What a process takes ahead of requests: exact in sum, for a moment, where plenty is left."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.book import Plan
from gateway.core.limits import FixedWindow, RateLimit, TokenBucket
from gateway.core.refusals import Refusal
from gateway.state.base import Hold
from gateway.state.shared.ahead import AHEAD_MAX, AHEAD_MIN, AHEAD_US
from tests.state.fleet import Process
from tests.state.shop import BOTH, NOW, ONE, TWO, Shop, holds, with_beads
from tests.state.stage import DAY, S, allowance, us

PLENTY = 1_000_000
WINDOW = RateLimit("window", "account", "fixed_window", PLENTY, 3600 * S, 1, id="plan/p/window")
BUCKET = RateLimit("bucket", "key", "gcra", PLENTY, 3600 * S, PLENTY, id="plan/p/bucket")
RATES = (WINDOW, BUCKET)
ONLY = (WINDOW,)
PARALLEL = RateLimit("parallel", "key", "concurrency", PLENTY, 0, 1, id="plan/p/parallel")
ROUTES = RateLimit("all", "route", "fixed_window", PLENTY, 3600 * S, 1, id="route/r/all")


def begin(shop: Shop, process: Process, charges: Any = ONE, **more: Any) -> Hold | None:
    """One that does not wait."""
    ask = shop.asking(process, charges, **more)

    async def at_once() -> Hold | None:
        return process.state.admit_at_once(ask)

    return shop.run(at_once())


def many(shop: Shop, process: Process, charges: Any = ONE, **more: Any) -> list[Hold]:
    """So many that more is taken ahead of the next; it stays until the shop is drained.

    On a busy machine it would be given back before a test has looked.
    """
    shop.loop.stop_time()
    return holds(shop.ask(process, [charges] * 2 * AHEAD_MIN, **more))


def figures(shop: Shop) -> tuple[int, int]:
    return shop.sum("u|"), shop.sum("h|")


@pytest.mark.parametrize("limits", [(), RATES], ids=["budget", "rates"])
def test_after_many_the_next_do_not_wait(make: Callable[..., Shop], limits: Any) -> None:
    shop = make(PLENTY)
    one, two = shop.processes
    held = many(shop, one, limits=limits)
    taken = shop.sum("h|") - len(held)
    assert taken == 3 * AHEAD_MIN
    next_ones = [begin(shop, one, limits=limits) for _ in range(4)]
    assert None not in next_ones
    assert begin(shop, two, limits=limits) is None
    shop.end(one, [*held, *next_ones])
    assert figures(shop) == (2 + 2 * AHEAD_MIN + 4, 0)  # what nobody used was given back
    if limits:
        window, bucket = shop.one(two, limits=limits).counters
        assert isinstance(window, FixedWindow) and isinstance(bucket, TokenBucket)
        counted = 2 * AHEAD_MIN + 5
        assert window.count == (bucket.tat_us - NOW) // BUCKET.interval_us == counted


def test_few_take_nothing_ahead(make: Callable[..., Shop]) -> None:
    shop = make(PLENTY)
    one, _ = shop.processes
    for _ in range(30):
        held = holds(shop.ask(one, [ONE] * (AHEAD_MIN - 1)))
        assert (len(held), shop.sum("h|")) == (AHEAD_MIN - 1, AHEAD_MIN - 1)
        shop.end(one, held)


def test_it_is_bounded(make: Callable[..., Shop]) -> None:
    shop = make(PLENTY)
    one, _ = shop.processes
    shop.loop.stop_time()
    held = holds(shop.ask(one, [TWO] * 1000))
    assert shop.sum("h|") == 2 * (1000 + AHEAD_MAX)
    shop.end(one, held)


@pytest.mark.parametrize(
    "scarce", ["room", "window", "bucket", "in flight", "shared by others"], ids=str
)
def test_nothing_is_taken_ahead_where_it_may_matter(make: Callable[..., Shop], scarce: str) -> None:
    little = 10 * AHEAD_MIN
    shop = make(little if scarce == "room" else PLENTY)
    one, _ = shop.processes
    limits: dict[str, tuple[RateLimit, ...]] = {
        "room": (),
        "window": (RateLimit("w", "account", "fixed_window", little, 3600 * S, 1, id="w"),),
        "bucket": (RateLimit("b", "account", "gcra", PLENTY, 3600 * S, little, id="b"),),
        "in flight": (PARALLEL,),
        "shared by others": (ROUTES,),
    }
    held = many(shop, one, limits=limits[scarce])
    assert shop.sum("h|") == len(held) == 2 * AHEAD_MIN
    shop.end(one, held)


async def race(shop: Shop, limits: tuple[RateLimit, ...], kinds: list[Any]) -> int:
    """How many are let in, until each client was refused."""
    chance = random.Random(7)
    let_in = 0

    async def clock() -> None:
        while True:
            began_s = asyncio.get_running_loop().time()
            await asyncio.sleep(0.001)
            shop.now_us += int((asyncio.get_running_loop().time() - began_s) * 1e6)

    async def client(process: Process) -> None:
        nonlocal let_in
        while True:
            ask = shop.asking(process, chance.choice(kinds), limits=limits)
            found = process.state.admit_at_once(ask)
            decision = found or await process.state.admit_together(ask)
            if isinstance(decision, Refusal):
                return
            let_in += 1
            if chance.random() < 0.2:
                await asyncio.sleep(0.001)
            settlement = process.state.settlement(decision, decision.charges)
            if not process.state.is_plain(decision):
                settlement = await process.state.settlement_together(decision, decision.charges, ())
            process.state.settle(decision, settlement, next(shop.seqs))

    ticking = asyncio.create_task(clock())
    await asyncio.gather(*[client(p) for p in shop.processes for _ in range(40)])
    ticking.cancel()
    return let_in


@pytest.mark.parametrize("room", [0, 1, 40, 500, 2_500, 9_999])
def test_two_that_ask_without_a_pause_get_all_there_is_and_no_more(
    make: Callable[..., Shop], room: int
) -> None:
    """Nobody is refused what another one took ahead and does not use."""
    shop = make(room + 2)
    assert shop.run(race(shop, (), [ONE])) == room
    for process in shop.processes:
        shop.hot.drain(process)
    assert figures(shop) == (2 + room, 0)


@pytest.mark.parametrize("room", [1, 40, 500, 2_500, 9_999])
def test_nor_what_is_left_of_a_rate(make: Callable[..., Shop], room: int) -> None:
    window = RateLimit("w", "account", "fixed_window", room, 3600 * S, 1, id="plan/p/w")
    shop = make(PLENTY)
    assert shop.run(race(shop, (window,), [ONE])) == room


@pytest.mark.parametrize("scarce", ["room", "rate"])
def test_nor_where_more_than_one_number_decides_on_some(
    make: Callable[..., Shop], scarce: str
) -> None:
    room = 3_000
    shop = make(plan=with_beads(room + 2 if scarce == "room" else PLENTY))
    window = RateLimit("w", "account", "fixed_window", room, 3600 * S, 1, id="plan/p/w")
    limits = (window,) if scarce == "rate" else ()
    assert shop.run(race(shop, limits, [*[ONE] * 9, BOTH])) == room


@pytest.mark.parametrize("is_careful", [False, True], ids=["by the script", "on a copy"])
@pytest.mark.parametrize("scarce", ["room", "rate"])
def test_who_would_be_refused_for_it_waits_until_it_is_given_back(
    make: Callable[..., Shop], scarce: str, is_careful: bool
) -> None:
    room = 60 * AHEAD_MIN
    shop = make(plan=with_beads(room if scarce == "room" else PLENTY))
    limits = (RateLimit("w", "account", "fixed_window", room, 3600 * S, 1, id="plan/p/w"),)
    limits = limits if scarce == "rate" else ()
    one, two = shop.processes
    shop.end(two, [shop.one(two, BOTH if is_careful else ONE, limits=limits)])
    held = many(shop, one, limits=limits)
    shop.loop.go_on()
    left = room - (3 if scarce == "room" else 1) - len(held)
    rest = shop.ask(two, [BOTH if is_careful else ONE] * left, limits=limits)
    assert len(holds(rest)) == left
    shop.now_us += S
    assert holds(shop.ask(two, [ONE] * 3, limits=limits)) == []


def test_it_is_used_in_its_window_only(make: Callable[..., Shop]) -> None:
    shop = make(PLENTY)
    one, two = shop.processes
    held = many(shop, one, limits=ONLY)
    assert begin(shop, one, limits=ONLY) is not None
    shop.now_us += 3600 * S
    assert begin(shop, one, limits=ONLY) is None
    shop.end(one, held)  # and what was left is given back, but not to the new window
    (window,) = shop.one(two, limits=ONLY).counters
    assert isinstance(window, FixedWindow) and window.count == 1


def test_it_is_used_in_its_period_only(make: Callable[..., Shop]) -> None:
    evening = us("2026-03-02T23:59:59")
    shop = make(plan=Plan("p", (allowance("coins", PLENTY, DAY),)), now_us=evening)
    one, _ = shop.processes
    held = many(shop, one)
    assert begin(shop, one) is not None
    shop.now_us = evening + S
    assert begin(shop, one) is None
    shop.end(one, held)


def test_it_is_used_for_a_moment_only(make: Callable[..., Shop]) -> None:
    shop = make(PLENTY)
    one, _ = shop.processes
    many(shop, one)
    shop.now_us += AHEAD_US
    assert begin(shop, one) is None


def test_a_change_of_the_account_ends_it(make: Callable[..., Shop]) -> None:
    shop = make(PLENTY)
    one, _ = shop.processes
    held = many(shop, one)
    one.state.outdate(held[0].account.account.id)
    assert begin(shop, one) is None
    shop.end(one, [*held, shop.one(one)])
    assert figures(shop) == (2 + len(held) + 1, 0)


def test_what_is_open_when_the_state_is_begun_anew_has_nothing_ahead(
    make: Callable[..., Shop],
) -> None:
    shop = make(PLENTY)
    one, two = shop.processes
    held = many(shop, one)
    told = one.state.waiting(shop.tags[0], "1")
    assert len(told) == 1
    assert begin(shop, one) is None
    shop.run(one.tell(told))
    shop.lose()
    shop.refresh(two)
    assert shop.sum("h|") == len(held)
    shop.end(one, held)
    shop.end(one, many(shop, one))
    held = many(shop, one)
    shop.end(one, held)
    assert one.state.waiting(shop.tags[0], "1") == []  # nothing is on its way
    assert begin(shop, one) is None


def test_a_process_that_ends_leaves_it_for_its_lease(make: Callable[..., Shop]) -> None:
    shop = make(2 + 40 * AHEAD_MIN)
    one, two = shop.processes
    many(shop, one)
    for form in one.state.shared(shop.bind(one)).forms.values():
        form.ahead.drop()  # it was killed
    shop.now_us += shop.lease_us + S
    assert len(holds(shop.ask(two, [ONE] * 50 * AHEAD_MIN))) == 40 * AHEAD_MIN


def test_a_process_that_stops_gives_it_back(make: Callable[..., Shop]) -> None:
    shop = make(PLENTY)
    one, _ = shop.processes
    held = many(shop, one, limits=RATES)

    async def stops() -> None:
        one.state.drop_forms()

    shop.run(stops())
    assert not one.has_ahead(one.state.shared(shop.bind(one)))
    shop.hot.drain(one)
    assert shop.sum("h|") == len(held)
