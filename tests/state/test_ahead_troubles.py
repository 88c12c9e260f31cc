"""What was taken ahead, in trouble: too late, beside who asks for too much, given up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from gateway.core.limits import FixedWindow, RateLimit
from gateway.core.refusals import Refusal
from gateway.state.base import Hold
from gateway.state.shared.link import StateUnavailable
from tests.state.fleet import Process
from tests.state.shop import BOTH, ONE, Shop, holds, with_beads
from tests.state.stage import S
from tests.state.test_ahead import ONLY, PLENTY, many


def counted(shop: Shop, process: Process) -> int:
    """Of the window, by one request more."""
    (window,) = shop.one(process, limits=ONLY).counters
    assert isinstance(window, FixedWindow)
    return window.count - 1


async def beside_a_stream(shop: Shop, busy: Process, other: Process, charges: Any) -> Any:
    """What one is told that asks while many come elsewhere, without an end."""
    is_over = False

    async def clock() -> None:
        loop = asyncio.get_running_loop()
        while not is_over:
            began_s = loop.time()
            await asyncio.sleep(0.001)
            shop.now_us += int((loop.time() - began_s) * 1e6)

    async def client() -> None:
        while not is_over:
            ask = shop.asking(busy, ONE)
            decision = busy.state.admit_at_once(ask) or await busy.state.admit_together(ask)
            assert isinstance(decision, Hold)
            await asyncio.sleep(0.003)
            settlement = busy.state.settlement(decision, decision.charges)
            busy.state.settle(decision, settlement, next(shop.seqs))

    tasks = [asyncio.ensure_future(each) for each in (clock(), *[client() for _ in range(30)])]
    await asyncio.sleep(0.05)
    try:
        return await other.state.admit_together(shop.asking(other, charges))
    finally:
        is_over = True
        await asyncio.gather(*tasks)


@pytest.mark.parametrize("is_careful", [False, True], ids=["by the script", "on a copy"])
def test_who_asks_for_more_than_is_left_is_refused_beside_many_that_fit(
    make: Callable[..., Shop], is_careful: bool
) -> None:
    shop = make(plan=with_beads(50_000))
    one, two = shop.processes
    more = (("beads", 1),) if is_careful else ()
    found = shop.run(beside_a_stream(shop, one, two, (("coins", 60_000), *more)))
    assert isinstance(found, Refusal)
    assert found.code == "budget_exhausted"


def test_what_a_bucket_has_again_is_not_given_back(make: Callable[..., Shop]) -> None:
    """By a process that was frozen."""
    burst = 2_000
    # The server forgets a bucket when it is full again, by its own clock.
    limits = (RateLimit("b", "key", "gcra", burst, 60 * S, burst, id="plan/p/b"),)
    shop = make(PLENTY)
    one, two = shop.processes
    many(shop, one, limits=limits)
    shop.now_us += 300 * S
    first = holds(shop.ask(two, [ONE] * 2 * burst, limits=limits))
    shop.hot.drain(one)
    assert not one.has_ahead(one.state.shared(shop.bind(one)))
    assert len(first) == burst
    assert holds(shop.ask(two, [ONE] * burst, limits=limits)) == []


@pytest.mark.parametrize(("epoch", "more"), [("1", 0), ("2", 24)], ids=["as it was", "restarted"])
def test_an_epoch_that_begins_gives_back_to_windows_that_are_still_there(
    make: Callable[..., Shop], epoch: str, more: int
) -> None:
    """Another process of the server may have lost what was taken; nothing is given back twice."""
    shop = make(PLENTY)
    one, two = shop.processes
    held = many(shop, one, limits=ONLY)
    told = one.state.waiting(shop.tags[0], f"{epoch}.b")
    assert len(told) == 1
    shop.run(one.tell(told))
    shop.lose()
    shop.hot.drain(one)
    assert counted(shop, two) == len(held) + more


def test_a_stake_that_was_let_go_of_gives_back_to_windows(make: Callable[..., Shop]) -> None:
    shop = make(PLENTY)
    one, two = shop.processes
    held = many(shop, one, limits=ONLY)
    (stake,) = shop.fields("j|")
    shop.run(one.server.command("HDEL", shop.key, stake))
    for form in one.state.shared(shop.bind(one)).forms.values():
        form.ahead.until_us = 0  # nobody begins with it: one asks, and hears of it
    held += holds(shop.ask(one, [ONE], limits=ONLY))
    shop.hot.drain(one)
    assert counted(shop, two) == len(held)


@pytest.mark.parametrize("is_careful", [False, True], ids=["by the script", "on a copy"])
def test_what_nobody_waits_for_is_given_back_to_its_window_only(
    make: Callable[..., Shop], is_careful: bool
) -> None:
    shop = make(plan=with_beads(PLENTY))
    one, two = shop.processes
    charges = BOTH if is_careful else ONE
    real = one.server.run

    async def run(keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        reply = await real(keys, arguments)
        if b'["take"' in arguments[2] or b'["limits"' in arguments[2]:
            one.server.run = real  # type: ignore[method-assign]
            shop.now_us += 3600 * S
            await two.state.admit_together(shop.asking(two, ONE, limits=ONLY))
            waiting.cancel()
        return reply

    async def gives_up() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await waiting

    one.server.run = run  # type: ignore[method-assign]
    waiting = shop.loop.create_task(
        one.state.admit_together(shop.asking(one, charges, limits=ONLY))  # type: ignore[arg-type]
    )
    shop.run(gives_up())
    shop.hot.drain(one)
    assert waiting.cancelled()
    assert counted(shop, two) == 1


def test_a_batch_that_is_done_again_in_another_epoch_gives_back_to_windows_once(
    make: Callable[..., Shop],
) -> None:
    """They outlive the epoch that it was done in first."""
    shop = make(PLENTY)
    one, two = shop.processes
    shop.end(two, [shop.one(two, limits=ONLY) for _ in range(30)])
    held = many(shop, one, limits=ONLY)
    real, tag, given_back = one.server.run, shop.tags[0], []

    async def run(keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        reply = await real(keys, arguments)
        if b'"untake"' in arguments[2] and not given_back:
            given_back.append(reply)
            await one.server.command("SET", f"{tag}epoch", "2")
            raise StateUnavailable("the reply was lost")
        return reply

    one.server.run = run  # type: ignore[method-assign]
    shop.end(one, held)
    assert given_back
    assert counted(shop, two) == 30 + len(held)
