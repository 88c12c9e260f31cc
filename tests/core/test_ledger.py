"""One balance: hold, post, void, and what is left; figures of the documents."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.book import OverageRate
from gateway.core.ledger import AMOUNT_MAX, Balance, Lot
from gateway.core.money import (
    CENT_MICRO,
    exact_cost,
    format_cents,
    format_micro,
    round_cents,
    whole_micro,
)
from gateway.core.periods import Span

SPAN = Span(0, 1_000)
UC = 10**9  # nine decimals


def balance_of(granted: int | None, *lots: Lot, overage: bool = False) -> Balance:
    balance = Balance("coins", SPAN, granted, overage=overage)
    balance.set_lots(list(lots), 0)
    return balance


def test_apibricks_500_uc_on_committed_256_are_158_67_over_and_414_67_dollars() -> None:
    included = 256 * UC * 100 // 75  # 341.333333333 UC, rounded down
    assert included == 341_333_333_333
    balance = balance_of(included, overage=True)
    balance.rate, balance.is_billed = OverageRate(1_000_000, UC), True
    balance.post(0, 300 * UC)
    assert (balance.remaining, balance.over) == (41_333_333_333, 0)
    balance.post(0, 200 * UC)
    assert (balance.used, balance.over, balance.remaining) == (500 * UC, 158_666_666_667, 0)
    assert format_cents(round_cents(256_000_000 + balance.spent, "half_up")) == "414.67"


@pytest.mark.parametrize(
    ("price_micro", "units", "rounding", "over", "micro"),
    [
        (10_000, 100, "unit", 250, 25_000),  # testomat: $0.01 for each 100 reports
        (10_000, 1_000, "unit", 1, 10),
        (50_000, 10_000, "unit", 12_345, 61_725),
        (10_000, 100, "lot", 250, 30_000),
        (10_000, 100, "lot", 300, 30_000),
        (400_000, 1, "unit", 3, 1_200_000),  # testkase: $0.40 a credit
        (1, 3, "unit", 1, 1),  # a part of a micro-dollar is one
        (10_000, 100, "lot", 0, 0),
    ],
)
def test_overage_in_money(
    price_micro: int, units: int, rounding: str, over: int, micro: int
) -> None:
    rate = OverageRate(price_micro, units, rounding)  # type: ignore[arg-type]
    assert whole_micro(exact_cost(rate, over)) == micro


def test_money_as_text() -> None:
    assert [format_micro(n) for n in (0, 5, 10_000, 1_500_000, -25_000)] == [
        "0.00", "0.000005", "0.01", "1.50", "-0.025",
    ]  # fmt: skip
    halves = (CENT_MICRO // 2 - 1, CENT_MICRO // 2, CENT_MICRO // 2 + 1)
    assert [round_cents(Fraction(n), "half_up") for n in halves] == [0, 1, 1]
    assert [round_cents(Fraction(n), "up") for n in (0, 1, CENT_MICRO)] == [0, 1, 1]


def test_a_hold_is_ended_once() -> None:
    balance = balance_of(10)
    balance.hold(4)
    balance.void(4)
    with pytest.raises(AssertionError):
        balance.void(1)


def test_room_says_what_fits_without_asking_further() -> None:
    balance = balance_of(10)
    assert balance.room == 10
    balance.overage = True
    balance.refresh()
    assert balance.room == AMOUNT_MAX
    balance.is_watched = True
    balance.refresh()
    assert balance.room < 0
    assert balance_of(None).room == AMOUNT_MAX
    assert balance_of(10, Lot("b", "bundle", 5)).room < 0


@given(
    st.integers(0, 20),
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 2_000), st.integers(0, 3)), max_size=5),
    st.lists(st.integers(0, 30), max_size=8),
)
def test_units_leave_in_order_and_none_is_lost(
    granted: int, sources: list[tuple[int, int, int]], amounts: list[int]
) -> None:
    lots = [
        Lot(str(n), "bundle", amount, expires_us=end_us, priority=priority)
        for n, (amount, end_us, priority) in enumerate(sources)
    ]
    balance = balance_of(granted, *lots)
    queue = sorted([(*lot.order, lot.amount) for lot in lots] + [(*balance.order, granted)])
    units = [source[3] for source in queue for _ in range(source[4])]
    for amount in amounts:
        parts = balance.split(amount)
        assert sum(part.amount for part in parts) == amount
        assert all(part.amount > 0 for part in parts)
        took = units[:amount]
        del units[:amount]
        owing = amount - len(took)
        for lot_id in {*took, ""}:
            expected = took.count(lot_id) + (owing if lot_id == "" else 0)
            assert sum(part.amount for part in parts if part.lot == lot_id) == expected
        balance.post(0, amount)
    left = sum(lot.left for lot in lots) + balance.own_left
    consumed = sum(lot.used for lot in lots) + balance.used
    assert left + consumed == granted + sum(lot.amount for lot in lots) + balance.over
    assert balance.remaining == len(units)
