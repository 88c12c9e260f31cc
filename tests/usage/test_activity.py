"""Query parameters are parsed strictly; cursors are opaque; events are shaped for people."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.store.reports import Place
from gateway.usage.activity import decode_cursor, encode_cursor, parse_query


def test_every_filter() -> None:
    query = parse_query(
        {
            "from": "2025-11-20T15:00:00Z",
            "to": "2025-11-20T16:00:00+01:00",
            "user": "u",
            "project": "p",
            "key": "k",
            "operation": "o",
            "route": "r",
            "outcome": "charged",
            "meter": "coins",
            "status_min": "200",
            "status_max": "299",
            "limit": "7",
            "cursor": encode_cursor(Place(5, 6)),
        }
    )
    wanted = query.wanted
    assert wanted.from_us == wanted.to_us == 1_763_650_800_000_000
    assert (wanted.user, wanted.project, wanted.key_id) == ("u", "p", "k")
    assert (wanted.operation, wanted.route, wanted.outcome) == ("o", "r", "charged")
    assert (wanted.meter, wanted.status_min, wanted.status_max) == ("coins", 200, 299)
    assert (query.limit, query.after) == (7, Place(5, 6))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("limit", text) for text in ("0", "1001", "-1", "1.0", "١", "")),
        *(("from", text) for text in ("yesterday", "2026-13-01", "")),
        *(("cursor", text) for text in ("", "AAAA", "!!", "é", "MS4yLjM", "x" * 300)),
        ("status_min", "abc"),
        ("colour", "red"),
        ("user", "u" * 300),
    ],
)
def test_what_is_wrong_is_named(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        parse_query({name: text})


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_cursors_round_trip(time_us: int, seq: int) -> None:
    assert decode_cursor(encode_cursor(Place(time_us, seq))) == Place(time_us, seq)


@given(st.text(max_size=30))
def test_no_foreign_cursor_breaks_us(text: str) -> None:
    try:
        assert encode_cursor(decode_cursor(text)) == text
    except ValueError as error:
        assert "next_cursor" in str(error)
