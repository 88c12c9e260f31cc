"""The spending cap: overage of a calendar month in money, all meters together."""

from __future__ import annotations

import pytest

from gateway.core.book import Plan
from gateway.core.ledger import AMOUNT_MAX
from gateway.core.limits import RateLimit
from gateway.core.periods import Period
from gateway.core.pricing import Counted, Rule
from gateway.core.refusals import Refusal
from tests.state.stage import DAY, DOLLAR, WEEK, Stage, allowance, priced, us
from tests.support.asking import Asking

T = us("2026-03-10T12:00")
APRIL = us("2026-04-01")
COINS = allowance("coins", 10, on_exhausted="overage", overage=priced(1))  # 1 cent each
TOKENS = allowance("tokens", 10, on_exhausted="overage", overage=priced(5, 10))
PLAN = Plan("p", (COINS, TOKENS), on_leave="next_period")


def test_what_would_pass_the_cap_is_refused_and_what_reaches_it_passes() -> None:
    stage = Stage(PLAN, cap_micro=DOLLAR // 20)  # five coins
    stage.spend(T, 12)
    refusal = stage.refusal(T, ("coins", 4))
    assert (refusal.code, refusal.status, refusal.reason) == (
        "spending_cap_reached",
        None,  # the kind's: 402
        "blocked:spending_cap",
    )
    row = refusal.limits[-1]
    assert (row.kind, row.limit, row.used, row.remaining) == ("spending", "0.05", "0.02", "0.03")
    assert row.reset_us == APRIL
    stage.spend(T, 3)
    assert stage.hot.spending(stage.state, T).spent == DOLLAR // 20


def test_a_cap_that_is_reached_stops_all_that_is_charged_until_the_month_is_over() -> None:
    stage = Stage(PLAN, cap_micro=DOLLAR // 20)
    stage.spend(T, 15)
    assert stage.refusal(T, ("tokens", 1)).code == "spending_cap_reached"  # below its quota
    assert stage.refusal(T, ("free", 1)).code == "spending_cap_reached"
    stage.settle(stage.hold(T, ("tokens", 0)))  # what is not charged goes on
    stage.spend(APRIL, 1, "tokens")
    stage.restart()
    assert stage.refusal(T, ("tokens", 1)).code == "spending_cap_reached"


def test_parallel_requests_cannot_pass_it_together() -> None:
    stage = Stage(PLAN, cap_micro=DOLLAR // 20)
    holds = [stage.admit(T, ("coins", 4), ("tokens", 0)) for _ in range(10)]
    admitted = [hold for hold in holds if not isinstance(hold, Refusal)]
    assert len(admitted) == 3  # 12: two coins over; a fourth would make six
    stage.hot.release(admitted[0])
    stage.hold(T, ("coins", 4))


def test_meters_add_up_and_the_cap_can_be_raised_or_taken_away_at_once() -> None:
    stage = Stage(PLAN, cap_micro=DOLLAR // 10)
    stage.spend(T, 15)
    stage.spend(T, 20, "tokens")
    assert stage.refusal(T, ("coins", 1)).code == "spending_cap_reached"
    stage.change(T, cap_micro=DOLLAR // 10 + 10_000)
    stage.spend(T, 1)
    stage.refusal(T, ("coins", 1))
    stage.change(T, cap_micro=None)
    stage.spend(T, 1_000)
    stage.change(T, cap_micro=DOLLAR // 20)
    stage.refusal(T, ("coins", 1))


def test_a_cap_of_nothing_lets_the_quota_be_used_and_no_more() -> None:
    stage = Stage(PLAN, cap_micro=0)
    stage.spend(T, 10)
    assert stage.refusal(T, ("coins", 1)).code == "spending_cap_reached"
    stage.spend(T, 10, "tokens")


@pytest.mark.parametrize("is_restarted", [False, True])
def test_weeks_and_days_of_one_month_add_up(is_restarted: bool) -> None:
    weekly = allowance("coins", 10, WEEK, on_exhausted="overage", overage=priced(1))
    daily = allowance("tokens", 1, DAY, on_exhausted="overage", overage=priced(1))
    stage = Stage(Plan("p", (weekly, daily)), cap_micro=DOLLAR // 10, anchor_us=us("2026-03-02"))
    for day, meter, amount in (
        ("2026-03-03", "coins", 12),
        ("2026-03-04", "tokens", 3),
        ("2026-03-10", "coins", 13),
        ("2026-03-17", "tokens", 2),
    ):
        stage.spend(us(day), amount, meter)
        if is_restarted:
            stage.restart()
    now_us = us("2026-03-18")
    assert stage.hot.spending(stage.state, now_us).spent == 8 * DOLLAR // 100
    stage.spend(now_us, 12)
    assert stage.refusal(now_us, ("tokens", 1)).code == "spending_cap_reached"


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_week_over_the_end_of_a_month_is_told_apart_by_its_days(is_restarted: bool) -> None:
    weekly = allowance("coins", 10, WEEK, on_exhausted="overage", overage=priced(1))
    stage = Stage(Plan("p", (weekly, TOKENS)), cap_micro=DOLLAR // 20, anchor_us=us("2026-03-02"))
    march, april = us("2026-03-31"), us("2026-04-02")  # the week began on March 30
    stage.spend(march, 15)
    assert stage.hot.spending(stage.state, march).spent == DOLLAR // 20
    assert stage.refusal(march, ("coins", 1)).code == "spending_cap_reached"
    late = stage.admit(march, ("coins", 0))  # admitted in March, and settled in April
    assert not isinstance(late, Refusal)
    assert stage.hot.spending(stage.state, april).spent == 0
    stage.settle(late, (("coins", 3),))
    if is_restarted:
        stage.restart()
    assert stage.hot.spending(stage.state, april).spent == 0
    stage.spend(april, 4)
    assert stage.hot.spending(stage.state, april).spent == 4 * DOLLAR // 100
    if is_restarted:
        stage.restart()
    stage.spend(april, 1, "tokens")
    assert stage.refusal(april, ("coins", 2)).code == "spending_cap_reached"


@pytest.mark.parametrize("is_restarted", [False, True])
def test_what_a_trial_let_pass_does_not_count_for_the_cap(is_restarted: bool) -> None:
    trial = Plan("trial", (COINS,), billing="trial", on_leave="at_once")
    stage = Stage(trial, Plan("p", (COINS,)), cap_micro=DOLLAR // 20)
    stage.spend(T, 30)
    late = stage.hold(T, ("coins", 1))
    stage.change(T + 1, plan="p")
    stage.spend(T + 2, 3)
    stage.settle(late)  # of the trial, too
    if is_restarted:
        stage.restart()
    assert stage.hot.spending(stage.state, T + 3).spent == 3 * DOLLAR // 100
    stage.spend(T + 3, 2)
    assert stage.refusal(T + 4, ("coins", 1)).code == "spending_cap_reached"


def test_the_error_of_an_estimate_is_no_overage_where_the_plan_blocks() -> None:
    stage = Stage(PLAN, cap_micro=DOLLAR // 20, overage=False)
    stage.settle(stage.hold(T, ("coins", 1)), (("coins", 100),))
    assert stage.hot.spending(stage.state, T).spent == 0
    stage.spend(T, 1, "tokens")
    stage.change(T + 1, overage=True)  # from now on it is billed, as the invoice does
    assert stage.hot.spending(stage.state, T + 1).is_reached


def test_a_request_of_last_period_that_settles_late_still_costs() -> None:
    daily = allowance("coins", 10, DAY, on_exhausted="overage", overage=priced(1))
    stage = Stage(Plan("p", (daily,)), cap_micro=DOLLAR // 20)
    hold = stage.hold(T, ("coins", 14))
    tomorrow = T + 86_400 * 1_000_000
    assert stage.hot.spending(stage.state, tomorrow)[1:3] == (0, 40_000)
    stage.refusal(tomorrow, ("coins", 12))
    stage.settle(hold)
    stage.spend(tomorrow, 11)
    assert stage.refusal(tomorrow, ("coins", 1)).code == "spending_cap_reached"


def test_counted_requests_count_too_and_wait_for_a_month_that_is_over() -> None:
    rule = Rule("coins", rate=(1, 10), counter="steps")
    stage = Stage(PLAN, cap_micro=DOLLAR // 100)
    stage.spend(T, 10)
    stage.hold(T, ("coins", 0), counted=(Counted(rule, 19),))
    refusal = stage.refusal(T, ("coins", 0), counted=(Counted(rule, 1),))
    assert refusal.code == "spending_cap_reached"
    assert refusal.retry_after_s == (APRIL - T) // 1_000_000


def test_overage_that_was_used_keeps_its_price_when_the_plan_changes() -> None:
    enterprise = Plan("e", (allowance("coins", 10),), billing="enterprise")
    stage = Stage(PLAN, enterprise)
    stage.spend(T, 15)
    stage.change(T + 1, plan="e")
    assert stage.refusal(T + 2, ("coins", 1)).code == "budget_exhausted"
    assert stage.balance(T + 2).spent == DOLLAR // 20


def test_the_order_of_refusals_is_limits_budgets_caps_spending() -> None:
    hourly = RateLimit("hourly", "account", "fixed_window", 1, 3600 * 1_000_000, 1, id="h")
    blocked = allowance("blocked", 1)
    capped = (allowance("capped", 9), allowance("capped", 1, DAY))
    stage = Stage(Plan("p", (COINS, blocked, *capped)), cap_micro=1)
    stage.spend(T, 10)
    everything = (("coins", 1), ("blocked", 2), ("capped", 2))
    stage.hot.admit(Asking(stage.state, T, (), limits=(hourly,)))

    def refused(charges: tuple[tuple[str, int], ...], limits: tuple[RateLimit, ...] = ()) -> str:
        answer = stage.hot.admit(Asking(stage.state, T, charges, limits=limits))
        assert isinstance(answer, Refusal)
        assert sum(row.refused for row in answer.limits) == 1
        return answer.reason

    assert refused(everything, (hourly,)) == "blocked:hourly"
    assert refused(everything) == "blocked:blocked"
    assert refused((("coins", 1), ("capped", 2))) == "blocked:capped@day"
    assert refused((("coins", 1),)) == "blocked:spending_cap"


def test_figures_near_2_to_the_53_are_refused_and_never_inexact() -> None:
    stage = Stage(Plan("p", (allowance("coins", AMOUNT_MAX, on_exhausted="overage"),)))
    stage.spend(T, AMOUNT_MAX - 1)
    stage.spend(T, 1)
    assert stage.refusal(T, ("coins", 1)).code == "budget_exhausted"
    assert stage.balance(T).used == AMOUNT_MAX


@pytest.mark.parametrize("is_restarted", [False, True])
def test_units_without_a_period_count_in_the_month_they_were_used_in(is_restarted: bool) -> None:
    ever = allowance("coins", 10, Period("ever"), on_exhausted="overage", overage=priced(1))
    stage = Stage(Plan("p", (ever, TOKENS)), cap_micro=DOLLAR // 20)
    stage.spend(T, 15)
    assert stage.refusal(T, ("tokens", 1)).code == "spending_cap_reached"
    for month in (APRIL, us("2026-05-01")):
        if is_restarted:
            stage.restart()
        assert stage.hot.spending(stage.state, month).spent == 0
        stage.spend(month, 5)
        assert stage.refusal(month, ("tokens", 1)).code == "spending_cap_reached"
