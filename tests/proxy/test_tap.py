"""The tap reads what an answer says of its price, however its bytes are cut."""

from __future__ import annotations

import gzip
import zlib
from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.figures import parse_figure
from gateway.proxy.tap import AnswerTap

TOKENS = parse_figure("stream.json:usage.total_tokens")
TOTAL = parse_figure("answer.json:usage.total_tokens")
STREAM = (
    b': a comment\r\n\r\ndata: {"choices":[1],"usage":null}\r\n\r\n'
    b'event: x\ndata: {"usage":\ndata: {"total_tokens": 41}}\n\n'
    b'data: {"usage":{"total_tokens":42}}\r\rdata: [DONE]\n\n'
)


def tap(kind: str = "application/json", coding: str = "", most: int = 10_000) -> AnswerTap:
    return AnswerTap((TOKENS, TOTAL), kind, coding, most)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(places)]


@given(st.lists(st.integers(0, 10_000), max_size=30))
def test_the_last_event_that_has_the_figure_counts(cuts: list[int]) -> None:
    found = tap("text/event-stream; charset=utf-8")
    for piece in pieces(STREAM, cuts):
        found.feed(piece)
    found.finish()
    assert found.find(TOKENS) == 42
    assert found.events == 4


@pytest.mark.parametrize(
    ("path", "events"),
    [
        ("totals.0", b'data: {"totals":[37]}\n\n'),
        ("", b"data: 37\n\n"),
        ("0.total", b'data: [{"total":37}]\n\n'),
        ("usage.total", b'\xef\xbb\xbfdata: {"usage":{"total":37}}\n\n'),
        ("usage.total", b'data: {"usage":{"t\\u006ftal":37}}\n\n'),
    ],
)
def test_events_of_every_shape(path: str, events: bytes) -> None:
    figure = parse_figure(f"stream.json:{path}")
    two = gzip.compress(events[:9]) + gzip.compress(events[9:])
    for packed in (events, gzip.compress(events), two):
        coding = "" if packed is events else "gzip"
        found = AnswerTap((figure,), "text/event-stream", coding, 10_000)
        for byte in packed:
            found.feed(bytes((byte,)))
        found.finish()
        assert found.find(figure) == 37


def test_a_stream_that_breaks_off_has_what_was_said_until_then() -> None:
    found = tap("text/event-stream")
    found.feed(STREAM[: STREAM.index(b"42")])
    found.finish()
    assert found.find(TOKENS) == 41
    early = tap("text/event-stream")
    early.feed(b'data: {"usage":{"total_tokens":7}}')
    early.finish()
    assert early.find(TOKENS) == 7


@given(st.lists(st.integers(0, 10_000), max_size=10), st.sampled_from(["", "gzip", "deflate"]))
def test_a_json_answer_is_read_when_it_is_whole(cuts: list[int], coding: str) -> None:
    document = orjson.dumps({"usage": {"total_tokens": 7}, "x": "y" * 200})
    packed = {"": bytes, "gzip": gzip.compress, "deflate": zlib.compress}[coding](document)
    found = tap(coding=coding)
    for piece in pieces(packed, cuts):
        found.feed(piece)
    found.finish()
    assert found.find(TOTAL) == 7


@pytest.mark.parametrize(
    ("data", "kind", "coding"),
    [
        (b'{"usage": {', "application/json", ""),
        (b'{"usage": {"total_tokens": 7}}', "application/json", "br"),
        (b"\x1f\x8bbroken", "application/json", "gzip"),
        (b'{"usage": {"total_tokens": 7}}' + b" " * 10_000, "application/json", ""),
        (gzip.compress(b"\0" * 10**8), "application/json", "gzip"),
        (b'data: {"usage": {"total\n\n', "text/event-stream", ""),
    ],
)
def test_what_cannot_be_read_is_missing(data: bytes, kind: str, coding: str) -> None:
    found = tap(kind, coding)
    found.feed(data)
    found.finish()
    assert found.find(TOTAL) is None
    assert found.find(TOKENS) is None


def test_an_endless_line_takes_no_memory() -> None:
    found = tap("text/event-stream")
    for _ in range(100):
        found.feed(b"x" * 100_000)
    found.feed(b'\n\ndata: {"usage":{"total_tokens":3}}\n\n')
    assert found.find(TOKENS) == 3
    assert len(found._line) < 2_000_000
