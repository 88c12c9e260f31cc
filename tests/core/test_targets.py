"""The canonical path: one form for what backends serve alike, refusal for the rest."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.malformed import Malformed
from gateway.core.target import Target, canonical_path, parse_target

NOBODY: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    ("path", "canonical"),
    [
        ("/", "/"),
        ("/a", "/a"),
        ("/a/", "/a"),
        ("/%61", "/a"),
        ("/a%20b", "/a b"),
        ("/a@b:c", "/a@b:c"),
        ("/a%40b", "/a@b"),
        ("/%e4%b8%ad", "/\u4e2d"),
        ("/.well-known/x.txt", "/.well-known/x.txt"),
        ("/a.b.c", "/a.b.c"),
        ("/100%25", "/100%"),
        ("/%2570aid", "/%70aid"),  # decoded once, as backends do
    ],
)
def test_canonical(path: str, canonical: str) -> None:
    assert canonical_path(path) == canonical


@pytest.mark.parametrize(
    "path",
    [
        "//", "//a", "/a//b", "/a//", "/.", "/..", "/./a", "/a/../b", "/%2e%2e/a", "/a/%2E",
        "/a%2fb", "/a%2Fb", "/a%5cb", "/a\\b", "/a;b", "/a%00", "/a%0a", "/a%1f", "/a%7f", "/a%",
        "/a%2", "/a%zz", "/%c0%af", "/%ff", "/\u00e4", "/a b", "/a.", "/a%20", "/a./b", "",
    ],
)  # fmt: skip
def test_refused(path: str) -> None:
    with pytest.raises((Malformed, IndexError)):
        canonical_path(path)


@pytest.mark.parametrize(
    ("raw", "status"),
    [("*", 501), ("a", 400), ("http://x/a", 400), ("ftp://ok.example/a", 400), ("/a#b", 400)],
)
def test_bad_targets(raw: str, status: int) -> None:
    with pytest.raises(Malformed) as caught:
        parse_target(raw, frozenset({"ok.example"}))
    assert caught.value.status == status


def test_parts_stay_as_they_came() -> None:
    assert parse_target("/%61?x=%2F&y", NOBODY) == Target("/a", "/%61", "x=%2F&y")
    assert parse_target("/a?", NOBODY) == Target("/a", "/a", "")
    assert parse_target("/a", NOBODY).query is None
    absolute = parse_target("http://OK.example:80/a?b", frozenset({"ok.example"}))
    assert absolute == Target("/a", "/a", "b")


@given(st.text(alphabet="/.%2eEfF5cC;\\aAbB 0~\x00\u00e4", max_size=24))
def test_what_is_accepted_has_one_reading(tail: str) -> None:
    """Whoever decodes, resolves dots and merges slashes serves the canonical path."""
    try:
        canonical = canonical_path("/" + tail)
    except Malformed:
        return
    decoded = unquote("/" + tail, errors="strict")
    segments: list[str] = []
    for segment in decoded.split("/"):
        if segment == "..":
            segments = segments[:-1]
        elif segment not in ("", "."):
            segments.append(segment)
    assert "/" + "/".join(segments) == canonical
    assert "\x00" not in canonical and "\\" not in canonical
