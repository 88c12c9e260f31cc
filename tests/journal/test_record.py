"""A record comes back as it was written, whatever a client put into it."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.events import Posted
from gateway.core.units import AMOUNT_MAX
from gateway.journal.record import (
    CRC_CHARS,
    OPEN_MAX_BYTES,
    RECORD_MAX_BYTES,
    REFUSED_ROWS_MAX,
    encode_close,
    encode_open,
    encode_refused,
    integer,
    is_sealed,
    seal,
    text,
)
from tests.journal.making import event

any_text = st.text(st.characters(codec=None), max_size=60) | st.binary(max_size=40).map(
    lambda raw: raw.decode("utf-8", "surrogateescape")
)
amounts = st.integers(0, AMOUNT_MAX)
posted = st.lists(
    st.builds(Posted, st.sampled_from(["coins", "credits"]), amounts, amounts, any_text)
)


@given(any_text, st.integers(2, 80))
def test_any_text_becomes_utf8(value: str, cut: int) -> None:
    clean = text(value, cut)
    assert len(clean.encode()) >= 0
    assert len(clean) <= max(cut, 1)


@given(st.text(max_size=100))
def test_sound_text_stays(value: str) -> None:
    assert text(value) == value


def test_bytes_that_are_no_text_are_written_percent_encoded() -> None:
    assert text(b"/caf\xe9".decode("utf-8", "surrogateescape")) == "/caf%E9"
    assert text("/\ud800") == "/\ufffd"


@given(any_text, any_text, any_text, posted)
def test_a_close_reads_back(path: str, source: str, user: str, charges: list[Posted]) -> None:
    made = event(1, path=path, source=source, user=user, charges=tuple(charges[:20]))
    label = (*made[2:7], *made[8:12], made.book)
    rest = (made.id, made.time_us, source, path, 200, "charged", made.charges, 1, 2, 3, 4, "")
    line = seal(encode_close(7, label, rest))
    assert is_sealed(line)
    row = orjson.loads(line[CRC_CHARS:])
    assert row[:2] == ["c", 7]
    assert row[2][1] == text(user)
    assert row[6] == text(path)
    assert row[9] == [[*charge[:3], text(charge.lot)] for charge in charges[:20]]


@given(st.lists(any_text.map(lambda t: t * 400), min_size=3, max_size=3))
def test_no_record_is_larger_than_its_reserve(texts: list[str]) -> None:
    user, path, request_id = texts
    label = ("acc", user, user, user, user, user, user, user, user, user)
    charges = [("coins", AMOUNT_MAX, AMOUNT_MAX)] * 40
    rest = (path, 1, path, path, 200, path, charges, 1, 2, 3, 4, request_id)
    body = encode_close(7, label, rest)
    assert len(body) + CRC_CHARS <= RECORD_MAX_BYTES
    row = orjson.loads(body)
    assert row[2][0] == "acc"
    assert row[9] == [["coins", AMOUNT_MAX, AMOUNT_MAX]] * 40  # amounts are never cut


def test_an_open_is_cut_to_its_size_or_refused() -> None:
    assert len(encode_open(1, "id", 2, "acc", "r" * 9_000, [("coins", 1)])) <= OPEN_MAX_BYTES
    with pytest.raises(ValueError, match="charges are too long"):
        encode_open(1, "id", 2, "acc", "r", [("coins", AMOUNT_MAX)] * 100)


def test_refused_rows_fit_a_record() -> None:
    rows = [(1, "\x01" * 999, "\x02" * 999, "\x03" * 999, "\x04" * 999, 5)] * REFUSED_ROWS_MAX
    assert len(encode_refused(1, rows)) + CRC_CHARS <= RECORD_MAX_BYTES  # type: ignore[arg-type]


def test_amounts_beyond_53_bits_are_refused() -> None:
    assert integer(AMOUNT_MAX) == 2**53 - 1
    with pytest.raises(ValueError, match="53 bits"):
        integer(AMOUNT_MAX + 1)


@given(st.binary(max_size=200), st.integers(0, 10_000), st.integers(1, 255))
def test_any_changed_byte_is_noticed(body: bytes, where: int, change: int) -> None:
    line = bytearray(seal(body.replace(b"\n", b" ") + b"\n"))
    line[where % len(line)] ^= change
    assert not is_sealed(bytes(line))


def test_a_line_without_its_end_is_not_sealed() -> None:
    line = seal(b'["o",1]\n')
    assert is_sealed(line)
    assert not any(is_sealed(line[:size]) for size in range(len(line)))
