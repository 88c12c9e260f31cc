"""Amounts as text and back, exactly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.units import (
    AMOUNT_MAX,
    DECIMALS_MAX,
    format_amount,
    json_amount,
    parse_amount,
)


@given(st.integers(-AMOUNT_MAX, AMOUNT_MAX), st.integers(0, DECIMALS_MAX))
def test_round_trip(amount: int, decimals: int) -> None:
    assert parse_amount(format_amount(amount, decimals), decimals) == amount


@pytest.mark.parametrize(
    ("text", "decimals", "amount"),
    [
        ("12", 0, 12),
        ("0.1", 1, 1),
        ("12.3", 2, 1230),
        ("-0.05", 2, -5),
        ("7.500", 1, 75),
        ("+1", 3, 1000),
    ],
)
def test_parse(text: str, decimals: int, amount: int) -> None:
    assert parse_amount(text, decimals) == amount


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1e3",
        "nan",
        "inf",
        "1_000",
        "0x1",
        " 1",
        "1.",
        ".5",
        "--1",
        "١٢",
        "1,5",
        "9" * 30,
        "1.001",
    ],
)
def test_what_is_no_exact_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_amount(text, 2)


def test_a_million_tenths_are_exactly_100000() -> None:
    assert format_amount(sum(parse_amount("0.1", 1) for _ in range(1_000_000)), 1) == "100000.0"


def test_json_amounts_are_ints_without_decimals_and_text_with() -> None:
    assert json_amount(12, 0) == 12
    assert json_amount(12, 1) == "1.2"
