"""An account's events as its owner asks for them: query parameters in, a filter out.

Invariant: the cursor is opaque and keyed on (time, sequence), so that pages neither miss
nor repeat an event while new ones arrive. Must not know HTTP or SQL.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple

from gateway.store.reports import PAGE_MAX, ActivityFilter, Place

LIMIT_DEFAULT = 100
TEXT_MAX = 256  # of one parameter; no name of ours is longer
_TEXTS = ("user", "project", "operation", "route", "outcome", "meter")
_KNOWN = frozenset((*_TEXTS, "from", "to", "key", "status_min", "status_max", "limit", "cursor"))


class Query(NamedTuple):
    wanted: ActivityFilter
    limit: int
    after: Place | None


def parse_query(parameters: Mapping[str, str], zone: tzinfo = UTC) -> Query:
    """From decoded query parameters; instants without an offset are local times of `zone`.

    Raises ValueError saying which parameter, what was expected and found.
    """
    for name, text in parameters.items():
        if name not in _KNOWN:
            raise ValueError(f"{name[:TEXT_MAX]}: expected one of {', '.join(sorted(_KNOWN))}")
        if len(text) > TEXT_MAX:
            raise ValueError(f"{name}: expected at most {TEXT_MAX} characters")
    wanted = ActivityFilter(
        from_us=_instant(parameters, "from", zone),
        to_us=_instant(parameters, "to", zone),
        key_id=parameters.get("key"),
        status_min=_number(parameters, "status_min", 0, 999),
        status_max=_number(parameters, "status_max", 0, 999),
        **{name: parameters.get(name) for name in _TEXTS},
    )
    limit = _number(parameters, "limit", 1, PAGE_MAX)
    cursor = parameters.get("cursor")
    after = None if cursor is None else decode_cursor(cursor)
    return Query(wanted, LIMIT_DEFAULT if limit is None else limit, after)


def encode_cursor(place: Place) -> str:
    return urlsafe_b64encode(f"{place.time_us}.{place.seq}".encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> Place:
    """Raises ValueError for anything that `encode_cursor` did not make."""
    try:
        text = urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4)).decode("ascii")
        time_us, _, seq = text.partition(".")
        place = Place(int(time_us), int(seq))
    except (ValueError, binascii.Error):
        place = None
    if place is None or encode_cursor(place) != cursor or max(place) >= 2**63 or min(place) < 0:
        raise ValueError("cursor: expected the `next_cursor` of an earlier page")
    return place


def _number(parameters: Mapping[str, str], name: str, least: int, most: int) -> int | None:
    text = parameters.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or not least <= int(text) <= most:
        raise ValueError(f"{name}: expected a number from {least} to {most}, found {text!r}")
    return int(text)


def _instant(parameters: Mapping[str, str], name: str, zone: tzinfo) -> int | None:
    text = parameters.get(name)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{name}: expected a date like 2026-01-31T12:00:00Z, found {text!r}"
        ) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=zone)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
