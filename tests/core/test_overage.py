"""Which units past the grants are billed, when, and that telling it twice says the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.book import OverageRate
from gateway.core.money import Bill, exact_cost, whole_micro
from gateway.core.overage import Accrued, Use, accrue, switches, was_allowed, was_billed
from gateway.core.periods import DAY_US, MONTH
from gateway.core.rows import BalanceRow, LedgerEntry
from gateway.core.terms import Timeline, effective_plan
from gateway.state.memory import MemoryState
from tests.core.terms_making import (
    ACME,
    DOLLAR,
    Source,
    books,
    entry,
    lives,
    paying,
    plan,
    timeline,
    us,
)

START = us("2026-03-01")
MARCH = MONTH.span(START, 0)


def told(
    history: Timeline, use: Sequence[int], entries: Sequence[LedgerEntry] = (), carried_in: int = 0
) -> tuple[list[Accrued], Bill]:
    """By days from the first of March, of so much used on each."""
    days = [START + n * DAY_US for n in range(len(use) + 1)]
    found = books(history, entries)
    bounds = sorted({*days, *(at for at in switches(found, MARCH) if at < days[-1])})
    amounts = dict(zip(days, use, strict=False))
    uses = [Use(a, b, amounts.get(a, 0)) for a, b in pairwise(bounds)]
    return accrue(found, MARCH, uses, carried_in, days[-1])


def units(added: Sequence[Accrued]) -> list[int]:
    return [entry.units for entry in added]


def on(*changes: tuple[str, Any]) -> Timeline:
    """An account of a plan with overage at a dollar, and how it changed."""
    versions = [("2026-02-01", ACME), *((at, replace(ACME, **more)) for at, more in changes)]
    return timeline(versions, [("2026-01-01", [paying()])])


def test_each_day_adds_what_it_went_past_the_grants() -> None:
    added, bill = told(on(), [60, 30, 30, 0, 5])
    assert units(added) == [0, 0, 20, 0, 5]
    assert (bill.over, bill.units, int(bill.cost_micro)) == (25, 25, 25_000_000)
    assert [entry.cost_micro for entry in added] == [0, 0, 20_000_000, 0, 5_000_000]


def test_what_was_carried_in_and_topped_up_in_time_is_used_first() -> None:
    topped = entry(1, 10, "2026-03-02", period="2026-03-01")
    added, _ = told(on(), [100, 20, 20], [topped], carried_in=15)
    assert units(added) == [0, 0, 15]


def test_units_granted_later_take_billed_ones_back_on_their_day() -> None:
    topped = entry(1, 50, "2026-03-03T12:00", period="2026-03-01")
    added, bill = told(on(), [100, 30, 0, 40], [topped])
    assert units(added) == [0, 30, -30, 20]
    assert bill.units == 20


def test_a_day_says_the_same_whatever_follows() -> None:
    history = on(("2026-03-04", {"overage": False}), ("2026-03-06", {"overage": True}))
    topped = entry(1, 5, "2026-03-05", period="2026-03-01")
    use = [90, 30, 10, 0, 0, 25, 3]
    whole, _ = told(history, use, [topped])
    for days in range(1, len(use)):
        assert told(history, use[:days], [topped])[0] == whole[:days]


def test_an_estimates_error_of_a_plan_that_blocks_is_nobodys_bill() -> None:
    added, bill = told(on(("2026-02-02", {"overage": False})), [100, 7])
    assert units(added) == [0, 0]
    assert (bill.over, bill.units) == (7, 0)


def test_overage_switched_off_in_the_month_is_still_owed() -> None:
    added, bill = told(on(("2026-03-03", {"overage": False})), [100, 20, 0, 0])
    assert units(added) == [0, 20, 0, 0]
    assert bill.units == 20


def test_what_a_trial_let_pass_is_not_billed_by_the_plan_that_follows() -> None:
    trial = plan(100, "trial", billing="trial", on_leave="at_once")
    history = timeline(
        [("2026-02-01", replace(ACME, plan="trial")), ("2026-03-03T08:00", ACME)],
        [("2026-01-01", [trial, paying(200)])],
    )
    added, bill = told(history, [300, 200, 10, 10])
    assert sum(units(added)) == 20 - 10  # the third day's use came before the change
    assert (bill.over, bill.units) == (320, 10)


@pytest.mark.parametrize("billing", ["trial", "free", "enterprise", "off"])
def test_modes_that_never_bill(billing: str) -> None:
    history = timeline([("2026-02-01", ACME)], [("2026-01-01", [paying(billing=billing)])])
    added, bill = told(history, [500, 500])
    assert units(added) == [0, 0] and bill.units == 0
    assert not was_billed(books(history), MARCH, MARCH.end_us)
    assert was_allowed(books(history), MARCH, MARCH.end_us) is (billing in ("trial", "off"))


def test_a_plan_without_overage_takes_back_what_it_cannot_bill() -> None:
    history = timeline(
        [("2026-02-01", ACME), ("2026-03-03", replace(ACME, plan="enterprise"))],
        [("2026-01-01", [paying(), plan(100, "enterprise", billing="enterprise")])],
    )
    added, bill = told(history, [120, 10, 0])
    assert units(added) == [20, 10, -30]
    assert bill.units == 0


def test_a_changed_rate_counts_for_the_whole_month() -> None:
    history = timeline(
        [("2026-02-01", ACME)],
        [
            ("2026-01-01", [paying()]),
            ("2026-03-03", [paying(overage=OverageRate(2_000_000))]),
        ],
    )
    added, bill = told(history, [110, 0, 0])
    assert [entry.cost_micro for entry in added] == [10_000_000, 0, 10_000_000]
    assert bill.cost_micro == 20_000_000


@pytest.mark.parametrize(
    ("rate", "amount", "micro"),
    [
        (DOLLAR, 158, Fraction(158_000_000)),
        (OverageRate(10_000, 1000), 1, Fraction(10)),
        (OverageRate(10_000, 3), 1, Fraction(10_000, 3)),
        (OverageRate(10_000, 1000, "lot"), 1, Fraction(10_000)),
        (OverageRate(10_000, 1000, "lot"), 1000, Fraction(10_000)),
        (OverageRate(10_000, 1000, "lot"), 1001, Fraction(20_000)),
        (OverageRate(10_000, 1000, "lot"), 0, Fraction(0)),
    ],
)
def test_costs_are_exact(rate: OverageRate, amount: int, micro: Fraction) -> None:
    assert exact_cost(rate, amount) == micro
    assert whole_micro(exact_cost(rate, amount)) == -(-micro.numerator // micro.denominator)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20), st.integers(0, 120))
def test_the_days_sum_to_the_period(use: list[int], granted: int) -> None:
    rate = OverageRate(10_000, 7)
    history = timeline([("2026-02-01", ACME)], [("2026-01-01", [paying(granted, overage=rate)])])
    added, bill = told(history, use)
    over = max(0, sum(use) - granted)
    assert sum(units(added)) == bill.units == over
    assert sum(entry.cost_micro for entry in added) == exact_cost(rate, over)
    past = list(accumulate(use))
    assert units(added) == [
        max(0, b - granted) - max(0, a - granted) for a, b in pairwise([0, *past])
    ]


@given(lives(overage=OverageRate(10_000, 7), on_exhausted="overage"))
def test_bills_are_what_the_hot_state_counts_against_the_cap(
    life: tuple[Timeline, list[LedgerEntry], list[BalanceRow], int],
) -> None:
    history, entries, balances, now_us = life
    account = history.accounts[-1].account
    effective = effective_plan(history.plans[-1].plans["paid"], account)
    hot = MemoryState(Source(history, entries, balances))
    state = hot.account(account, effective)
    found = books(history, entries, balances)
    (now,) = found.history(now_us, 1)
    uses = [Use(now.span.start_us, now_us + 1, now.used)]
    _, bill = accrue(found, now.span, uses, now.carried_in, now_us)
    assert bill.units == hot.balance(state, "coins", now_us).over == now.overage
    assert whole_micro(bill.cost_micro) == hot.spending(state, now_us).reserved
