"""Allowances as plans, seats and time change: what counts at once, and what next period."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.core.book import Plan
from gateway.core.periods import DAY_US, WEEK_US, Period
from gateway.core.refusals import Refusal
from gateway.core.rows import PlansVersion
from tests.state.stage import DAY, WEEK, Stage, allowance, priced, us

T = us("2026-03-10T12:00")
MARCH, APRIL = us("2026-03-01"), us("2026-04-01")
SEAT = allowance("reports", 5_000, per_seat=True, status=402, overage=priced(1, 100))
PRO = Plan("pro", (SEAT,), on_leave="next_period")
BIG = Plan("big", (replace(SEAT, amount=9_000, overage=priced(2, 100)),), on_leave="next_period")
TRIAL = Plan("trial", (replace(SEAT, amount=100),), billing="trial", on_leave="at_once")
FREE = Plan(
    "free", (replace(SEAT, amount=100, per_seat=False),), billing="free", on_leave="at_once"
)
ENTERPRISE = Plan("enterprise", (replace(SEAT, amount=50),), billing="enterprise")
OFF = Plan("off", (replace(SEAT, amount=50),), billing="off")


def left(stage: Stage, at_us: int = T) -> int | None:
    return stage.balance(at_us, "reports").remaining


def test_testomat_ten_seats_of_5000_are_a_pool_of_50000() -> None:
    stage = Stage(PRO, seats=10)
    assert left(stage) == 50_000


def test_seats_count_at_once_both_ways_and_what_is_used_stays() -> None:
    stage = Stage(PRO, seats=10)
    stage.spend(T, 20_000, "reports")
    stage.change(T + 1, seats=12)
    assert left(stage) == 40_000
    stage.change(T + 2, seats=3)
    assert left(stage) == 0 and stage.refusal(T + 3, ("reports", 1)).status == 402
    stage.change(T + 4, seats=5)
    assert left(stage) == 5_000


def test_another_plan_keeps_the_quota_and_takes_its_own_next_period() -> None:
    stage = Stage(PRO, BIG, seats=10)
    stage.spend(T, 1_000, "reports")
    stage.change(T + 1, plan="big")
    assert left(stage) == 49_000
    stage.change(T + 2, seats=20)  # seats count at once, by the rate of the month
    assert left(stage) == 99_000
    assert left(stage, APRIL) == 180_000
    stage.restart()
    assert left(stage) == 99_000 and left(stage, APRIL) == 180_000


def test_several_changes_in_a_period_and_back_are_as_if_there_were_none() -> None:
    stage = Stage(PRO, BIG)
    for at_us, plan in ((T, "big"), (T + 1, "pro"), (T + 2, "big")):
        stage.change(at_us, plan=plan)
        assert left(stage, T + 3) == 5_000
    assert left(stage, APRIL) == 9_000


@pytest.mark.parametrize("first", [TRIAL, FREE])
def test_who_leaves_a_trial_or_the_free_plan_has_the_new_quota_at_once(first: Plan) -> None:
    stage = Stage(first, PRO)
    stage.spend(T, 60, "reports")
    stage.change(T + 1, plan="pro")
    assert left(stage, T + 1) == 4_940
    stage.restart()
    assert left(stage, T + 1) == 4_940


def test_a_plan_with_another_period_or_none_of_the_meter_counts_at_once() -> None:
    weekly = Plan("weekly", (allowance("reports", 70, WEEK),), on_leave="next_period")
    none = Plan("none")
    stage = Stage(PRO, weekly, none)
    stage.spend(T, 10, "reports")
    stage.change(T + 1, plan="weekly")
    assert left(stage, T + 1) == 70
    stage.change(T + 2, plan="none")
    assert left(stage, T + 2) is None
    stage.change(T + 3, plan="pro")
    assert left(stage, T + 3) == 4_990  # what the month has used is not forgotten


def test_what_is_held_is_not_forgotten_when_the_period_changes_and_changes_back() -> None:
    weekly = Plan("weekly", (allowance("reports", 70, WEEK),), on_leave="next_period")
    stage = Stage(PRO, weekly)
    hold = stage.hold(T, ("reports", 5_000))
    stage.change(T + 1, plan="weekly")
    assert left(stage, T + 1) == 70
    stage.change(T + 2, plan="pro")
    assert left(stage, T + 2) == 0
    stage.settle(hold)
    assert left(stage, T + 2) == 0 and stage.balance(T + 2, "reports").used == 5_000


def test_an_edited_plan_counts_at_once() -> None:
    stage = Stage(PRO)
    stage.spend(T, 1_000, "reports")
    edited = replace(PRO, allowances=(replace(SEAT, amount=6_000),))
    stage.store.books.append(PlansVersion(T, "2", {"pro": edited}))
    stage.bind()
    assert left(stage, T + 1) == 5_000


def test_an_upgrade_counts_even_before_its_version_is_in_the_store() -> None:
    stage = Stage(FREE, PRO)
    left(stage)
    stage.account = replace(stage.account, plan="pro")
    stage.bind()
    assert left(stage, T) == 5_000


def test_a_version_counts_though_its_instant_is_ahead_of_the_clock() -> None:
    """Versions of one instant follow each other by a microsecond in the store."""
    stage = Stage(FREE, PRO, from_us=T)
    stage.spend(T, 100, "reports")
    stage.change(T + 1, plan="pro")
    assert left(stage, T) == 4_900
    stage.restart()
    assert left(stage, T) == 4_900


@pytest.mark.parametrize("plan", [TRIAL, OFF])
def test_trial_and_off_count_and_never_refuse(plan: Plan) -> None:
    stage = Stage(plan, cap_micro=1)
    stage.spend(T, 10**6, "reports")
    balance = stage.balance(T, "reports")
    assert (balance.used, balance.remaining, balance.cost()) == (10**6, 0, 0)


@pytest.mark.parametrize("plan", [FREE, ENTERPRISE])
def test_free_and_enterprise_block_also_where_overage_is_asked_for(plan: Plan) -> None:
    stage = Stage(plan, overage=True)
    hold = stage.hold(T, ("reports", 50))
    stage.settle(hold, (("reports", 1_000),))
    assert stage.refusal(T, ("reports", 1)).status == 402
    assert stage.balance(T, "reports").cost() == 0


def test_paid_takes_402_or_goes_on_by_one_switch_at_once() -> None:
    """Testomat: one switch for all meters; off blocks again at or above the quota."""
    tokens = allowance("tokens", 10, status=402)
    stage = Stage(Plan("pro", (SEAT, tokens)))
    stage.spend(T, 5_000, "reports")
    assert stage.refusal(T, ("reports", 1)).status == 402
    stage.change(T + 1, overage=True)
    stage.spend(T + 1, 250, "reports")
    stage.spend(T + 1, 11, "tokens")
    balance = stage.balance(T + 1, "reports")
    assert (balance.over, balance.spent) == (250, 25_000)  # $0.01 for each 100
    stage.change(T + 2, overage=False)
    assert isinstance(stage.admit(T + 2, ("reports", 1)), Refusal)
    assert isinstance(stage.admit(T + 2, ("tokens", 1)), Refusal)
    assert stage.balance(T + 2, "reports").spent == 25_000


def test_an_amount_of_its_own_where_the_plan_lets_accounts_have_one() -> None:
    settable = allowance("coins", 1_000, WEEK, settable=True)
    stage = Stage(Plan("p", (settable,)), allowances=(("coins", 0),))
    assert stage.refusal(T, ("coins", 1)).status == 429
    stage.change(T + 1, allowances=(("coins", 10**12),))
    stage.spend(T + 1, 10**12)
    fixed = Stage(Plan("p", (replace(settable, settable=False),)), allowances=(("coins", 5),))
    assert fixed.balance(T).remaining == 1_000


def test_a_cap_counts_in_its_own_period_under_its_own_name() -> None:
    stage = Stage(Plan("p", (allowance("coins", 100), allowance("coins", 20, DAY, status=402))))
    today = us("2026-03-10")
    posted = stage.spend(T, 15)
    assert posted == (("coins", 15, MARCH), ("coins", 15, today, "@day"))
    assert stage.balance(T).remaining == 5
    refusal = stage.refusal(T, ("coins", 6))
    assert (refusal.reason, refusal.status) == ("blocked:coins@day", 402)
    assert refusal.retry_after_s == 12 * 3600
    tomorrow = today + DAY_US
    assert stage.balance(tomorrow).remaining == 20
    for day in range(4):
        stage.spend(tomorrow + day * DAY_US, 20)
    assert stage.balance(tomorrow + 4 * DAY_US).remaining == 5  # of the month
    stage.restart()
    assert stage.balance(tomorrow + 3 * DAY_US).remaining == 0


def test_a_cap_comes_back_with_what_was_counted_in_it() -> None:
    capped = Plan("capped", (allowance("coins", 100), allowance("coins", 20, DAY)))
    stage = Stage(capped, Plan("open", (allowance("coins", 100),)))
    stage.spend(T, 15)
    stage.store.sums.clear()  # nothing was shipped yet
    stage.change(T + 1, plan="open")
    assert stage.balance(T + 1).remaining == 85
    stage.change(T + 2, plan="capped")
    assert stage.balance(T + 2).remaining == 5


def test_a_hold_over_a_caps_midnight_counts_in_the_day_it_was_admitted_in() -> None:
    stage = Stage(Plan("p", (allowance("coins", 100), allowance("coins", 20, DAY))))
    late = us("2026-03-10T23:59:59")
    hold = stage.hold(late, ("coins", 20))
    assert stage.balance(late + 2_000_000).remaining == 20
    assert stage.settle(hold)[1] == ("coins", 20, us("2026-03-10"), "@day")
    assert stage.balance(late + 2_000_000).remaining == 20


def test_periods_are_the_accounts_own_in_time_zone_and_anchor() -> None:
    kyiv = Stage(Plan("p", (allowance("coins", 5, DAY),)), timezone="Europe/Kyiv")
    assert kyiv.balance(us("2026-03-29T12:00")).span == (
        us("2026-03-29T00:00+02:00"),
        us("2026-03-30T00:00+03:00"),
    )
    weekly = Stage(Plan("p", (allowance("coins", 5, WEEK),)), anchor_us=T)
    assert weekly.balance(T + WEEK_US - 1).span == (T, T + WEEK_US)
    fixed = Stage(Plan("p", (allowance("c", 5, Period("fixed", 10 * DAY_US)),)), anchor_us=T)
    assert fixed.balance(T + 25 * DAY_US, "c").span[0] == T + 20 * DAY_US


@pytest.mark.parametrize("way", ["settle", "release"])
@pytest.mark.one_process
def test_a_hold_ends_once(way: str) -> None:
    stage = Stage(PRO)
    hold = stage.hold(T, ("reports", 1))
    assert stage.state.in_flight == 1
    if way == "settle":
        stage.settle(hold)
    else:
        stage.hot.release(hold)
    assert (stage.state.in_flight, hold.ask, hold.is_open) == (0, None, False)
    with pytest.raises(AssertionError):
        stage.hot.release(hold)
