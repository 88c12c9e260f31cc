"""What a figure is read from: numbers, headers, queries, and what was usual lately."""

from __future__ import annotations

from decimal import Decimal

import pytest

from gateway.core.pricing import Rule
from gateway.core.units import AMOUNT_MAX
from gateway.proxy.measure import MEANS_MAX, Means, exact_number, header_of, query_values


@pytest.mark.parametrize(
    ("value", "ratio"),
    [
        (0, (0, 1)),
        (AMOUNT_MAX, (AMOUNT_MAX, 1)),
        ("12", (12, 1)),
        (" 12.50 ", (25, 2)),
        (Decimal("0.1"), (1, 10)),
        (1.5, (3, 2)),
        ("1e3", (1000, 1)),
    ],
)
def test_numbers_are_exact(value: object, ratio: tuple[int, int]) -> None:
    assert exact_number(value) == ratio


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, False, -1, AMOUNT_MAX + 1, [], {}, b"1"),
        *("", "-1", "+1", "1_000", "0x10", "NaN", "Infinity", "1e999", "1e-31", "٣", "1,5"),
        *("1" * 41, Decimal("NaN"), float("inf"), Decimal(AMOUNT_MAX) + 1),
    ],
)
def test_what_is_no_number_within_bounds_is_none(value: object) -> None:
    assert exact_number(value) is None


def test_a_header_is_found_in_any_spelling() -> None:
    lines = [b"X-Cost-More: 9\r\n", b"X-COST:  7 \r\n", b"x-cost: 8\r\n"]
    assert header_of(lines, b"x-cost") == "7"
    assert header_of(lines, b"x-cos") is None


@pytest.mark.parametrize(
    ("query", "values"),
    [
        (None, []),
        ("", []),
        ("m=1&n=2&m=3", ["1", "3"]),
        ("%6d=a%20b+c", ["a b c"]),
        ("m", [""]),
        ("M=1", []),
    ],
)
def test_query_parameters_are_decoded(query: str | None, values: list[str]) -> None:
    assert query_values(query, "m") == values


def test_a_mean_follows_what_comes_account_by_account() -> None:
    means, rule = Means(), Rule("coins", rate=(1, 1), id="chat")
    assert means.get("acme", rule) is None
    means.note("acme", rule, (7, 2))
    assert means.get("acme", rule) == (4, 1)  # rounded up
    for _ in range(200):
        means.note("acme", rule, (1000, 1))
    assert means.get("acme", rule) == (1000, 1)
    assert means.get("other", rule) is None
    assert means.get("acme", Rule("coins", rate=(1, 1), id="other")) is None


def test_means_do_not_grow_for_ever() -> None:
    means, rule = Means(), Rule("coins", rate=(1, 1), id="chat")
    for n in range(MEANS_MAX + 1):
        means.note(f"a{n}", rule, (1, 1))
    assert means.get("a0", rule) is None
    assert means.get(f"a{MEANS_MAX}", rule) == (1, 1)
