"""Allowances over time, worked out from history alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.book import Account, Plan, SettableLimit
from gateway.core.limits import RateLimit
from gateway.core.periods import DAY_US, Span
from gateway.core.rows import AccountVersion, LedgerEntry, PlansVersion
from gateway.core.terms import (
    Past,
    Timeline,
    allowance_of_past,
    effective_plan,
    lots_of,
    occurrence,
)
from tests.state.stage import DAY, MONTH, allowance, priced, us

ACME = Account("acme", "p")
BORN = us("2025-01-01")
SETTABLE = RateLimit("per-product", "account", "fixed_window", 10_000, 3_600_000_000, 1, id="s")


def timeline_of(*plans: Plan, account: Account = ACME) -> Timeline:
    by_name = {plan.name: plan for plan in plans}
    return Timeline([AccountVersion(BORN, account)], [PlansVersion(BORN, "1", by_name)])


def test_the_plan_itself_where_nothing_is_the_accounts_own() -> None:
    plan = Plan("p", (allowance("coins", 5),))
    assert effective_plan(plan, ACME) is plan


@pytest.mark.parametrize(
    ("billing", "overage", "action", "is_priced"),
    [
        ("paid", None, "block", True),
        ("paid", True, "overage", True),
        ("paid", False, "block", True),
        ("free", True, "block", False),
        ("enterprise", True, "block", False),
        ("trial", None, "overage", False),
        ("trial", False, "overage", False),
        ("off", None, "overage", False),
    ],
)
def test_billing_modes(billing: str, overage: bool | None, action: str, is_priced: bool) -> None:
    plan = Plan("p", (allowance("coins", 5, overage=priced(1)),), billing=billing)  # type: ignore[arg-type]
    found = effective_plan(plan, replace(ACME, overage=overage)).allowances[0]
    assert (found.on_exhausted, found.overage is not None) == (action, is_priced)


def test_seats_and_amounts_of_its_own() -> None:
    seat = allowance("reports", 5_000, per_seat=True)
    own = allowance("coins", 1_000, settable=True)
    account = replace(ACME, seats=10, allowances=(("coins", 7), ("reports", 1)))
    found = effective_plan(Plan("p", (seat, own)), account)
    assert [a.amount for a in found.allowances] == [50_000, 7]


@pytest.mark.parametrize(("quotas", "expected"), [((), []), ((("per-product", 100),), [100])])
def test_onetest_hourly_limit_is_unlimited_until_it_is_set(
    quotas: tuple[tuple[str, int], ...], expected: list[int]
) -> None:
    plan = Plan("p", settable=(SettableLimit(SETTABLE),))
    found = effective_plan(plan, replace(ACME, limits=quotas)).limits
    assert [limit.quota for limit in found] == expected
    assert all(limit.policy == b'"per-product";q=100;w=3600' for limit in found)
    default = Plan("p", settable=(SettableLimit(SETTABLE, default=50),))
    assert effective_plan(default, ACME).limits[0].quota == 50
    unlimited = replace(ACME, limits=(("per-product", 0),))
    assert effective_plan(default, unlimited).limits == ()


def test_a_past_period_is_as_it_was_at_its_end() -> None:
    plan = Plan("p", (allowance("reports", 10, per_seat=True),))
    timeline = timeline_of(plan)
    february = Span(us("2025-02-01"), us("2025-03-01"))
    changed = Timeline(
        [
            *timeline.accounts,
            AccountVersion(us("2025-02-10"), replace(ACME, seats=3)),
            AccountVersion(us("2025-03-01"), replace(ACME, seats=9)),
        ],
        [
            *timeline.plans,
            PlansVersion(us("2025-02-20"), "2", {"p": Plan("p", (allowance("reports", 11),))}),
            PlansVersion(us("2025-04-01"), "3", {"p": plan}),
        ],
    )
    for at, amount in ((timeline, 10), (changed, 11)):
        found = allowance_of_past(at, "reports", february)
        assert found is not None and found.amount == amount
    assert allowance_of_past(Timeline((), ()), "reports", february) is None


# -- rollover -----------------------------------------------------------------


def carried(
    amount: int, most: int, used: list[int], entries: list[LedgerEntry] | None = None
) -> int:
    """What is carried into the day after days with these uses, since the account was made."""
    plan = Plan("p", (allowance("coins", amount, DAY, rollover=most),))
    sums = {BORN + day * DAY_US: n for day, n in enumerate(used) if n}
    past = Past(timeline_of(plan), ACME, "coins", sums, entries or ())
    return past.carried_into(BORN + len(used) * DAY_US, DAY)


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        ([], 0),
        ([4], 6),
        ([0, 0], 20),
        ([0] * 3, 25),  # capped
        ([0] * 1_000, 25),
        ([0, 0, 30], 0),
        ([0, 0, 31], 0),  # overdrawn: nothing is taken from the next one
        ([0] * 3 + [10] * 900, 25),  # what was once left is left as long as nobody takes it
        ([0] * 3 + [10] * 500 + [12] + [10] * 500, 23),
    ],
)
def test_what_is_left_is_carried_over_idle_and_busy_periods(used: list[int], expected: int) -> None:
    assert carried(10, 25, used) == expected


@given(st.integers(0, 20), st.integers(0, 60), st.lists(st.integers(0, 40), max_size=80))
def test_carried_over_is_what_step_by_step_gives(amount: int, most: int, used: list[int]) -> None:
    left = 0
    for n in used:
        left = min(max(0, amount + left - n), most)
    assert carried(amount, most, used) == left


def test_top_ups_are_not_carried_over_and_what_was_taken_back_neither() -> None:
    def entry(amount: int) -> LedgerEntry:
        return LedgerEntry(
            "e", "acme", "coins", "adjustment", "", BORN, amount, 0, None, 0, "", 0, "", "", 0
        )

    assert carried(10, 100, [12], [entry(50)]) == 0
    assert carried(10, 100, [2], [entry(50)]) == 8
    assert carried(10, 100, [2], [entry(-5)]) == 3


# -- lots -----------------------------------------------------------------------


def recurring(every: str, starts: str, expires: str | None = None) -> LedgerEntry:
    end_us = us(expires) if expires else None
    return LedgerEntry(
        "r", "acme", "coins", "recurring", "r", 0, 7, us(starts), end_us, 0, every, 0, "", "", 0
    )


@pytest.mark.parametrize(
    ("every", "at", "start", "begin", "end"),
    [
        ("month", "2024-02-10", "2024-02-01", "2024-02-05", "2024-03-01"),
        ("month", "2024-03-10", "2024-03-01", "2024-03-01", "2024-04-01"),
        ("month", "2024-01-10", "2024-02-01", "2024-02-05", "2024-03-01"),  # not yet
        ("week", "2024-02-13", "2024-02-12", "2024-02-12", "2024-02-19"),
        ("day", "2024-02-29T23:00", "2024-02-29", "2024-02-29", "2024-03-01"),
    ],
)
def test_occurrences(every: str, at: str, start: str, begin: str, end: str) -> None:
    lot = occurrence(recurring(every, "2024-02-05"), us(at))
    assert lot is not None
    assert (lot.id, lot.starts_us, lot.expires_us) == (f"r@{us(start)}", us(begin), us(end))


def test_a_recurring_grant_ends() -> None:
    entry = recurring("month", "2024-02-05", "2024-03-15")
    last = occurrence(entry, us("2024-03-10"))
    assert last is not None and last.expires_us == us("2024-03-15")
    assert occurrence(entry, us("2024-03-15")) is None
    assert lots_of([entry], "coins", us("2024-03-15")) == []
    assert lots_of([entry], "other", us("2024-03-10")) == []


def test_two_periods_of_a_meter_are_told_apart() -> None:
    plan = Plan("p", (allowance("coins", 5), allowance("coins", 2, DAY)))
    found = allowance_of_past(timeline_of(plan), "coins", MONTH.span(BORN, 0))
    assert found is not None and found.amount == 5
