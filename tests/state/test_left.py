"""Requests on their way when their period ends, or other terms put it aside."""

from __future__ import annotations

from gateway.core.book import Plan
from gateway.core.periods import DAY_US, HOUR_US, Period
from gateway.state.base import Hold
from tests.state.stage import DAY, DOLLAR, WEEK, Stage, allowance, priced, us

BORN = us("2026-01-27T07:00")  # a Tuesday; the week goes on into February
WEEKLY = Plan("w", (allowance("coins", 7, WEEK, on_exhausted="overage", overage=priced(1)),))
DAILY = Plan("d", (allowance("coins", 3, DAY, rollover=4, overage=priced(2)),))
EVER = Plan("e", (allowance("coins", 20, Period("ever"), overage=priced(1)),))
CENT = DOLLAR // 100


def spent(stage: Stage, now_us: int) -> int:
    """In cents; the invoice says the same."""
    found = stage.hot.spending(stage.state, now_us).spent
    assert found == stage.invoiced_micro(now_us)
    return found // CENT


def ended(stage: Stage, hold: Hold, coins: int) -> None:
    stage.settle(hold, (("coins", coins),))


def test_a_week_that_is_put_aside_keeps_its_price_for_what_is_on_its_way() -> None:
    stage = Stage(WEEKLY, DAILY, from_us=BORN, anchor_us=BORN)
    first, second = stage.hold(BORN, ("coins", 0)), stage.hold(BORN, ("coins", 0))
    now_us = BORN + DAY_US
    stage.change(now_us, plan="d")
    stage.spend(now_us, 1)
    ended(stage, first, 8)
    assert spent(stage, now_us) == 1
    stage.change(now_us + 1, overage=True)
    stage.spend(now_us + 1, 3)
    assert spent(stage, now_us + 1) == 1 + 2
    ended(stage, second, 2)
    assert spent(stage, now_us + 1) == 3 + 2
    assert spent(stage, BORN + 8 * DAY_US) == 0  # it is February


def test_a_period_that_begins_like_the_one_that_was_left_is_another() -> None:
    """Days and weeks of this account begin at the same instant."""
    midnight = us("2026-01-27")
    stage = Stage(WEEKLY, DAILY, from_us=midnight, anchor_us=midnight)
    late = stage.hold(midnight, ("coins", 0))
    stage.change(midnight + DAY_US, plan="d")
    assert stage.balance(midnight + DAY_US).carried == 0  # a week carries nothing into a day
    ended(stage, late, 9)
    assert spent(stage, midnight + DAY_US) == 2


def test_what_a_week_over_the_end_of_a_month_used_in_the_new_one_counts_there() -> None:
    stage = Stage(WEEKLY, from_us=BORN, anchor_us=BORN)
    late = stage.hold(BORN, ("coins", 0))
    february = BORN + 6 * DAY_US
    ended(stage, stage.hold(february, ("coins", 0)), 8)
    next_week = february + 2 * DAY_US
    assert spent(stage, next_week) == 1
    ended(stage, late, 5)  # of January: what was used after it is past the quota now
    assert spent(stage, next_week) == 6


def test_an_estimate_that_was_too_small_is_not_billed_when_another_plan_has_come() -> None:
    stage = Stage(EVER, WEEKLY, from_us=BORN, anchor_us=BORN)
    late = stage.hold(BORN, ("coins", 0))
    stage.change(BORN + HOUR_US, plan="w")
    stage.balance(BORN + HOUR_US)
    ended(stage, late, 22)
    assert spent(stage, BORN + HOUR_US) == 0  # an allowance that does not say overage


def test_units_without_a_period_cost_when_another_plan_has_come() -> None:
    stage = Stage(EVER, WEEKLY, from_us=BORN, anchor_us=BORN, overage=True)
    late = stage.hold(BORN, ("coins", 0))
    stage.change(BORN + HOUR_US, plan="w")
    assert [spent(stage, BORN + HOUR_US) for _ in range(2)] == [0, 0]
    ended(stage, late, 22)
    assert spent(stage, BORN + HOUR_US) == 2


def test_further_allowances_of_a_plan_that_was_left_count_what_was_on_its_way() -> None:
    capped = Plan("c", (*WEEKLY.allowances, allowance("coins", 6, DAY)))
    stage = Stage(capped, DAILY, from_us=BORN, anchor_us=BORN)
    late = stage.hold(BORN, ("coins", 2))
    stage.change(BORN + HOUR_US, plan="d")
    stage.balance(BORN + HOUR_US)
    midnight = BORN - 7 * HOUR_US
    assert stage.settle(late) == (("coins", 2, BORN), ("coins", 2, midnight, "@day"))
