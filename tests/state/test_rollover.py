"""What a period leaves to the next one, while requests are still on their way."""

from __future__ import annotations

import pytest

from gateway.core.book import Plan
from gateway.core.periods import DAY_US
from gateway.state.memory import MemoryState
from tests.state.stage import DAY, MONTH, Stage, allowance, us

BORN = us("2026-01-30")
DAILY = Plan("daily", (allowance("coins", 10, DAY, rollover=10),))
MONTHLY = Plan("monthly", (allowance("coins", 50, MONTH),))


def stage_of(*plans: Plan) -> Stage:
    return Stage(*plans, from_us=BORN)


def day(n: int) -> int:
    return BORN + n * DAY_US


def test_what_is_left_is_added_up_to_the_most() -> None:
    stage = stage_of(DAILY)
    stage.spend(day(0), 4)
    assert (stage.balance(day(1)).carried, stage.balance(day(1)).remaining) == (6, 16)
    stage.spend(day(1), 1)
    assert stage.balance(day(2)).carried == 10


@pytest.mark.parametrize("is_restarted", [False, True])
def test_after_idle_periods_it_is_the_same(is_restarted: bool) -> None:
    stage = stage_of(DAILY)
    stage.spend(day(0), 9)
    stage.spend(day(1), 11)
    if is_restarted:
        stage.restart()
    assert stage.balance(day(9)).carried == 10
    stage.spend(day(9), 20)
    assert stage.balance(day(10)).carried == 0


def test_what_is_held_is_not_carried_over_until_it_is_given_back() -> None:
    stage = stage_of(DAILY)
    hold = stage.hold(day(0), ("coins", 7))
    assert stage.balance(day(1)).carried == 3
    stage.hot.release(hold)
    assert stage.balance(day(1)).carried == 10


def test_a_request_that_ends_two_periods_later_reaches_both() -> None:
    stage = stage_of(DAILY)
    hold = stage.hold(day(0), ("coins", 10))
    stage.spend(day(1), 5)
    assert (stage.balance(day(2)).carried, stage.balance(day(2)).remaining) == (5, 15)
    stage.settle(hold, (("coins", 2),))
    assert stage.balance(day(2)).carried == 10
    stage.restart()
    assert stage.balance(day(2)).carried == 10


def test_a_request_that_ends_after_idle_periods_reaches_the_present_one() -> None:
    stage = stage_of(Plan("p", (allowance("coins", 3, DAY, rollover=100),)))
    hold = stage.hold(day(0), ("coins", 3))
    assert stage.balance(day(4)).carried == 9
    stage.hot.release(hold)
    assert stage.balance(day(4)).carried == 12


def test_a_request_that_held_nothing_and_came_to_more_after_idle_periods_takes_of_it() -> None:
    stage = stage_of(Plan("p", (allowance("coins", 3, DAY, rollover=4),)))
    hold = stage.hold(day(0), ("coins", 0))
    assert stage.balance(day(2)).carried == 4
    stage.settle(hold, (("coins", 3),))
    assert stage.balance(day(2)).carried == 3
    stage.restart()
    assert stage.balance(day(2)).carried == 3


def test_top_ups_are_not_carried_over_and_what_was_taken_back_neither() -> None:
    stage = stage_of(DAILY)
    stage.give("a", -8, day(0), kind="adjustment", lot="")
    assert stage.balance(day(1)).carried == 2
    stage.give("b", 50, day(1), kind="topup", lot="")
    stage.spend(day(1), 12)
    assert stage.balance(day(2)).carried == 0
    stage.give("c", -1, day(2), kind="adjustment", lot="")
    stage.balance(day(3))
    stage.give("d", -2, day(3), kind="adjustment", lot="", period_us=day(2))  # late
    before = stage.balance(day(3)).carried
    stage.restart()
    assert stage.balance(day(3)).carried == before == 7


def test_a_plan_without_the_allowance_ends_it_and_nothing_breaks() -> None:
    stage = stage_of(DAILY, Plan("none"))
    hold = stage.hold(day(0), ("coins", 4))
    stage.balance(day(1))
    stage.change(day(1) + 1, plan="none")
    assert stage.balance(day(1) + 2).remaining is None
    stage.settle(hold)


def test_another_period_that_begins_at_the_same_instant_goes_on_without_what_was_carried() -> None:
    """Postings name the start alone: February 1 is the first day, and the month."""
    stage = stage_of(DAILY, MONTHLY)
    stage.spend(day(0), 1)
    first = us("2026-02-01")
    stage.spend(first, 2)
    assert stage.balance(first).carried == 10
    stage.change(first + 1, plan="monthly")
    for _ in range(2):
        balance = stage.balance(first + 2)
        assert (balance.granted, balance.carried, balance.used) == (50, 0, 2)
        stage.restart()


def test_what_was_carried_is_kept_over_a_change_to_a_period_that_began_before_and_back() -> None:
    stage = stage_of(DAILY, MONTHLY)
    second = us("2026-02-02")
    stage.balance(us("2026-02-01"))
    assert stage.balance(second).carried == 10
    stage.change(second + 1, plan="monthly")
    stage.balance(second + 1)
    stage.give("t", 1, second + 1, kind="topup", lot="")  # of the month, which began on the 1st
    stage.change(second + 2, plan="daily")
    assert stage.balance(second + 2).carried == 10
    stage.restart()
    assert stage.balance(second + 2).carried == 10


@pytest.mark.one_process
def test_an_account_that_was_let_go_comes_back_the_same() -> None:
    stage = stage_of(DAILY)
    stage.spend(day(0), 4)
    assert stage.hot.evict_idle(0, day(5)) == {"acme"}
    assert isinstance(stage.hot, MemoryState) and stage.hot.loaded("acme") is None
    stage.bind()
    assert stage.balance(day(1)).remaining == 16


@pytest.mark.one_process
def test_an_account_with_a_request_on_its_way_is_not_let_go() -> None:
    stage = stage_of(DAILY)
    stage.hold(day(0), ("coins", 1))
    assert stage.hot.evict_idle(0, day(5)) == set()
