"""What stood in the books of each period, whatever changed and whether anybody called."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.book import Account, Plan
from gateway.core.periods import DAY_US, EVER_US, HOUR_US, MONTH, WEEK_US, Period, Span
from gateway.core.rows import BalanceRow, LedgerEntry
from gateway.core.statement import PeriodFigures, projected
from gateway.core.terms import Timeline, effective_plan
from gateway.state.memory import MemoryState
from tests.core.terms_making import (
    ACME,
    WEEK,
    Source,
    books,
    entry,
    lives,
    plan,
    timeline,
    us,
    used,
)

SOLD = [("2026-01-01", [plan()])]
ACCOUNT = [("2026-01-10", ACME)]


def shown(rows: list[PeriodFigures]) -> list[tuple[int, int, int, int]]:
    """(granted, consumed, expired, overage) of each period."""
    return [(r.granted_in_all, r.consumed, r.expired, r.overage) for r in rows]


def test_periods_without_a_call_and_after_downtime_are_there() -> None:
    anchored = replace(ACME, anchor_us=us("2026-01-08"))
    weekly = timeline([("2026-01-10", anchored)], [("2026-01-01", [plan(period=WEEK)])])
    found = books(weekly, balances=[used(30, "2026-01-15"), used(100, "2026-02-05")])
    rows = found.history(us("2026-02-20"), 13)
    assert [r.span.start_us for r in rows] == [us("2026-01-08") + n * WEEK_US for n in range(7)]
    assert shown(rows)[:3] == [(100, 0, 100, 0), (100, 30, 70, 0), (100, 0, 100, 0)]
    assert [r.is_over for r in rows] == [True] * 6 + [False]
    assert shown(rows)[-1] == (100, 0, 0, 0)  # it is not over: nothing has expired


def test_no_period_from_before_the_account() -> None:
    rows = books(timeline(ACCOUNT, SOLD)).history(us("2026-03-15"), 12)
    assert [r.span.start_us for r in rows] == [us(f"2026-0{n}-01") for n in (1, 2, 3)]


def test_the_last_periods_only() -> None:
    rows = books(timeline(ACCOUNT, SOLD)).history(us("2027-06-15"), 3)
    assert [r.span.start_us for r in rows] == [us(f"2027-0{n}-01") for n in (4, 5, 6)]


def test_seats_and_edited_plans_count_as_they_were_at_each_end() -> None:
    history = timeline(
        [("2026-01-10", replace(ACME, seats=2)), ("2026-02-20", replace(ACME, seats=5))],
        [("2026-01-01", [plan(per_seat=True)]), ("2026-03-10", [plan(10, per_seat=True)])],
    )
    rows = books(history).history(us("2026-04-02"), 9)
    assert [r.granted for r in rows] == [200, 500, 50, 50]


def test_a_plan_that_was_left_grants_until_the_period_ends() -> None:
    small, large = plan(100, "small", on_leave="next_period"), plan(900, "large")
    history = timeline(
        [("2026-01-10", Account("acme", "small")), ("2026-02-10", Account("acme", "large"))],
        [("2026-01-01", [small, large])],
    )
    rows = books(history).history(us("2026-03-02"), 9)
    assert [r.granted for r in rows] == [100, 100, 900]


def test_periods_of_another_kind_are_shown_as_they_were() -> None:
    weekly, monthly = plan(7, "weekly", WEEK), plan(30, "monthly")
    anchored = Account("acme", "weekly", anchor_us=us("2026-01-05"))
    history = timeline(
        [("2026-01-05", anchored), ("2026-01-22", replace(anchored, plan="monthly"))],
        [("2026-01-01", [weekly, monthly])],
    )
    rows = books(
        history, balances=[used(5, "2026-01-12"), used(9, "2026-01-01"), used(1, "2026-02-01")]
    ).history(us("2026-02-03"), 9)
    found = {r.span.start_us: (r.granted, r.consumed) for r in rows}
    assert found == {
        us("2026-01-01"): (30, 9),
        us("2026-01-05"): (7, 0),
        us("2026-01-12"): (7, 5),
        us("2026-01-19"): (7, 0),
        us("2026-02-01"): (30, 1),
    }


def test_a_time_zone_moves_the_months_from_then_on() -> None:
    kyiv = replace(ACME, timezone="Europe/Kyiv")
    history = timeline([("2026-01-10", ACME), ("2026-02-10", kyiv)], SOLD)
    rows = books(history, balances=[used(4, "2026-01-01")]).history(us("2026-03-15"), 9)
    assert (rows[0].span.start_us, rows[0].consumed) == (us("2026-01-01"), 4)
    assert rows[-1].span.start_us == us("2026-03-01") - 2 * HOUR_US


def test_a_meter_without_an_allowance_counts_and_grants_nothing() -> None:
    history = timeline(ACCOUNT, [("2026-01-01", [Plan("paid")])])
    (january, february) = books(history, balances=[used(7, "2026-01-01")]).history(
        us("2026-02-10"), 9
    )
    assert (january.is_limited, january.consumed, january.overage) == (False, 7, 0)
    assert (february.is_limited, february.expired) == (False, 0)


def test_top_ups_expire_with_their_period_and_overage_is_no_debt() -> None:
    rows = books(
        timeline(ACCOUNT, SOLD),
        [entry(1, 50, "2026-01-20", period="2026-01-01")],
        [used(120, "2026-01-01"), used(140, "2026-02-01")],
    ).history(us("2026-03-01"), 9)
    assert shown(rows) == [(150, 120, 30, 0), (100, 140, 0, 40), (100, 0, 0, 0)]


def test_lots_are_granted_once_and_expire_with_what_is_left() -> None:
    bought = entry(1, 1000, "2026-01-20", kind="bundle")
    given = entry(2, 30, "2026-01-21", kind="promotion", expires="2026-02-10")
    rows = books(
        timeline(ACCOUNT, SOLD),
        [bought, given],
        [
            used(100, "2026-01-01"),
            used(60, "2026-01-01", "e1"),
            used(20, "2026-01-01", "e2"),
            used(40, "2026-02-01", "e1"),
            used(5, "2026-02-01", "@day"),
        ],
    ).history(us("2026-03-05"), 9)
    assert shown(rows) == [(1130, 180, 0, 0), (100, 40, 110, 0), (100, 0, 0, 0)]


def test_a_lot_that_was_corrected_counts_when_it_was() -> None:
    bought = entry(1, 1000, "2026-01-20", kind="bundle", expires="2026-04-01")
    change = entry(2, -300, "2026-02-05", kind="adjustment", lot="e1")
    rows = books(timeline(ACCOUNT, SOLD), [bought, change]).history(us("2026-04-02"), 9)
    assert [r.lots_granted for r in rows] == [1000, -300, 0, 0]
    assert [r.lots_expired for r in rows] == [0, 0, 700, 0]


def test_recurring_lots_are_given_and_expire_period_by_period() -> None:
    weekly = entry(1, 10, "2026-01-12", kind="recurring", every="week")
    first = f"e1@{us('2026-01-12')}"
    rows = books(timeline(ACCOUNT, SOLD), [weekly], [used(4, "2026-01-01", first)]).history(
        us("2026-02-20"), 9
    )
    assert [r.lots_granted for r in rows] == [30, 30]  # 12, 19, 26 January; 2, 9, 16 February
    assert [r.lots_expired for r in rows] == [6 + 10, 10 + 10 + 10]


def test_rollover_goes_from_period_to_period_up_to_its_most() -> None:
    history = timeline(ACCOUNT, [("2026-01-01", [plan(rollover=50)])])
    rows = books(history, balances=[used(80, "2026-01-01"), used(110, "2026-03-01")]).history(
        us("2026-05-02"), 9
    )
    assert [r.carried_in for r in rows] == [0, 20, 50, 40, 50]
    assert [r.own_expired for r in rows] == [0, 70, 0, 90, 0]
    last = books(history, balances=[used(80, "2026-01-01")]).history(us("2026-03-02"), 1)
    assert last[0].carried_in == 50  # also where the periods before are not asked for


# -- what must always hold -----------------------------------------------------


@given(lives())
def test_what_came_in_is_what_went_out(
    life: tuple[Timeline, list[LedgerEntry], list[BalanceRow], int],
) -> None:
    history, entries, balances, now_us = life
    rows = books(history, entries, balances).history(now_us, 20)
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        left = 0 if row.is_over else max(0, row.limit - row.used)
        came = row.granted + row.topped_up + row.carried_in
        assert came == row.used - row.overage + row.own_expired + row.carried_out + left
        assert row.own_expired >= 0
        if after is not None:
            assert after.carried_in == row.carried_out


@given(lives())
def test_history_says_what_the_hot_state_decides_on(
    life: tuple[Timeline, list[LedgerEntry], list[BalanceRow], int],
) -> None:
    history, entries, balances, now_us = life
    account = history.accounts[-1].account
    effective = effective_plan(history.plans[-1].plans["paid"], account)
    state = MemoryState(Source(history, entries, balances))
    live = state.balance(state.account(account, effective), "coins", now_us)
    (now,) = books(history, entries, balances).history(now_us, 1)
    assert (live.limit, live.used, live.carried) == (now.limit, now.used, now.carried_in)
    assert live.span == now.span


# -- projection ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gone_us", "amount", "ahead"),
    [
        (15 * DAY_US, 100, 200),
        (30 * DAY_US, 100, 100),
        (20 * DAY_US, 1, 2),  # 1.5, rounded up
        (DAY_US, 7, 210),
        (0, 7, 700),  # a hundredth counts as elapsed
        (HOUR_US, 7, 700),
        (40 * DAY_US, 100, 100),
        (10 * DAY_US, 0, 0),
    ],
)
def test_projection_is_linear_and_exact(gone_us: int, amount: int, ahead: int) -> None:
    start_us = us("2026-04-01")
    assert projected(amount, Span(start_us, us("2026-05-01")), start_us + gone_us) == ahead


def test_a_period_without_an_end_is_not_projected() -> None:
    assert projected(7, Span(0, EVER_US), us("2026-04-01")) == 7


@given(st.integers(0, 2**53 - 1), st.integers(0, 40 * DAY_US))
def test_projections_fit_json(amount: int, gone_us: int) -> None:
    span = MONTH.span(us("2026-04-01"), 0)
    assert amount <= projected(amount, span, span.start_us + gone_us) < 2**63


def test_hourly_and_fixed_periods() -> None:
    fixed = Period("fixed", length_us=10 * DAY_US)
    anchored = replace(ACME, anchor_us=us("2026-01-10"))
    history = timeline([("2026-01-10", anchored)], [("2026-01-01", [plan(period=fixed)])])
    rows = books(history).history(us("2026-02-01"), 9)
    assert [r.span.start_us for r in rows] == [us("2026-01-10"), us("2026-01-20"), us("2026-01-30")]
