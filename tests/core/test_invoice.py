"""An invoice's lines are exact, rounded once, and add up."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.book import Account, Meter, OverageRate, Plan
from gateway.core.invoice import Invoice, MeterUse, billed_plan, make_invoice, round_cents
from gateway.core.money import exact_cost, format_cents
from gateway.core.periods import MONTH
from tests.core.terms_making import ACME, entry, paying, plan, timeline, us

UC = Meter("uc", 9, "Usage Credits")
STANDARD = OverageRate(1_000_000, UC.unit)
MARCH = MONTH.span(us("2026-03-05"), 0)


def use(included: int, used: int, rate: OverageRate = STANDARD, meter: Meter = UC) -> MeterUse:
    over = max(0, used - included)
    left = max(0, included - used)
    return MeterUse(meter, included, used, 0, left, over, 0, rate, exact_cost(rate, over))


def month(had: Plan, *uses: MeterUse, seats: int = 1) -> Invoice:
    return make_invoice(had, Account("acme", had.name, seats=seats), uses, (), "half_up")


def lines(invoice: Invoice) -> list[tuple[str, str]]:
    return [(line.kind, format_cents(line.cents)) for line in invoice.lines]


def committed(dollars: int, rate_cents: int) -> tuple[Plan, int]:
    """A plan, and the units that it includes: price / rate, rounded down to the unit."""
    included = dollars * 100 * UC.unit // rate_cents
    return Plan(f"committed-{dollars}", price_micro=dollars * 1_000_000), included


# -- the document's figures ------------------------------------------------------


def test_500_credits_on_committed_256_are_414_67() -> None:
    had, included = committed(256, 75)
    invoice = month(had, use(included, 500 * UC.unit))
    assert lines(invoice) == [("plan", "256.00"), ("overage", "158.67")]
    assert format_cents(invoice.total_cents) == "414.67"
    assert round(invoice.lines[1].units / UC.unit, 2) == 158.67


def test_300_credits_on_committed_256_leave_41_33() -> None:
    had, included = committed(256, 75)
    invoice = month(had, use(included, 300 * UC.unit))
    assert lines(invoice) == [("plan", "256.00")]
    assert round(invoice.uses[0].remaining / UC.unit, 2) == 41.33


def test_pay_as_you_go() -> None:
    invoice = month(Plan("payg"), use(0, 100 * UC.unit))
    assert lines(invoice) == [("overage", "100.00")]


@pytest.mark.parametrize(
    ("dollars", "cents", "credits"),
    [(64, 85, 75.29), (256, 75, 341.33), (512, 70, 731.43), (1024, 65, 1575.38)],
)
def test_included_credits(dollars: int, cents: int, credits: float) -> None:
    assert round(committed(dollars, cents)[1] / UC.unit, 2) == credits


# -- lines -------------------------------------------------------------------------


def test_seats_and_bundles_are_lines_of_their_own() -> None:
    had = Plan("pro", title="Professional", price_micro=5_000_000, seat_price_micro=30_000_000)
    bought = entry(1, 1000, "2026-03-03", kind="bundle", price_micro=10_000_000, reason="Starter")
    account = Account("acme", "pro", seats=10, cap_micro=50_000_000)
    invoice = make_invoice(had, account, (), [bought], "half_up")
    assert lines(invoice) == [("plan", "5.00"), ("seats", "300.00"), ("bundle", "10.00")]
    assert [line.title for line in invoice.lines] == ["Professional", "10 seats", "Starter"]
    assert (invoice.total_cents, invoice.cap_micro) == (31_500, 50_000_000)


@pytest.mark.parametrize("billing", ["trial", "off"])
def test_a_trial_costs_nothing(billing: str) -> None:
    had = Plan("p", billing=billing, price_micro=9_000_000, seat_price_micro=1)  # type: ignore[arg-type]
    invoice = month(had, use(0, 0), seats=3)
    assert (invoice.lines, invoice.total_cents) == ((), 0)


# -- rounding ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("micro", "half_up", "up"),
    [
        (Fraction(0), 0, 0),
        (Fraction(1), 0, 1),
        (Fraction(4_999), 0, 1),
        (Fraction(49_999_999_995, 10_000_000), 0, 1),  # not up to a micro-dollar before
        (Fraction(5_000), 1, 1),
        (Fraction(10_000), 1, 1),
        (Fraction(10_001), 1, 2),
        (Fraction(15_000), 2, 2),
        (Fraction(-5_000), 0, 0),
    ],
)
def test_rounding_to_the_cent(micro: Fraction, half_up: int, up: int) -> None:
    assert (round_cents(micro, "half_up"), round_cents(micro, "up")) == (half_up, up)


def test_each_line_is_rounded_once_and_the_total_is_their_sum() -> None:
    a_third = OverageRate(10_000, 3)
    meters = [replace(UC, name=f"m{n}") for n in range(3)]
    invoice = month(Plan("p"), *(use(0, 2, a_third, meter) for meter in meters))
    assert [line.cents for line in invoice.lines] == [1, 1, 1]
    assert invoice.total_cents == 3  # not the 2 of their exact sum


@given(st.integers(0, 10**15), st.integers(1, 10**9))
def test_half_up_is_never_further_than_half_a_cent(micro: int, per: int) -> None:
    exact = Fraction(micro, per)
    cents = round_cents(exact, "half_up")
    assert -5_000 <= exact - cents * 10_000 < 5_000
    assert 0 <= round_cents(exact, "up") * 10_000 - exact < 10_000


# -- whose price a month has -----------------------------------------------------------


def test_a_plan_taken_in_the_month_is_paid_when_it_grants() -> None:
    waits, at_once = plan(1, "a", on_leave="next_period"), plan(1, "t", on_leave="at_once")
    new = paying(10, name="b")
    for left, name in ((waits, "a"), (at_once, "b")):
        history = timeline(
            [
                ("2026-02-01", replace(ACME, plan=left.name)),
                ("2026-03-10", replace(ACME, plan="b")),
            ],
            [("2026-01-01", [left, new])],
        )
        assert billed_plan(history, new, MARCH, us("2026-03-20")) == name
        april = MONTH.span(us("2026-04-05"), 0)
        assert billed_plan(history, new, april, us("2026-04-20")) == "b"


def test_without_a_history_it_is_the_plan() -> None:
    assert billed_plan(timeline([], []), plan(1, "a"), MARCH, MARCH.end_us) == "a"
    assert billed_plan(timeline([], []), Plan("none"), MARCH, MARCH.end_us) == "none"
