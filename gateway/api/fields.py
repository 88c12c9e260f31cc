"""The fields of a body and the parameters of a query, read once at the border.

Unknown names are refused with the nearest known one; a value is parsed by the
same functions that read the configuration, so both accept the same forms. JSON
null is the same as not given. Raises ApiProblem only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

from gateway.api.problem import ApiProblem, expected, refuse_unknown
from gateway.config.problems import Expected
from gateway.config.quantities import parse_duration_us, parse_instant_us

T = TypeVar("T")
D = TypeVar("D")

LIST_MAX = 1_000  # entries of one field: routes or networks of a key
MOMENT_END_US = int(datetime(9999, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_COUNT = re.compile(r"[0-9]{1,18}", re.ASCII)


class Fields:
    """What was given; `what` is how errors call one: field or parameter."""

    def __init__(self, given: Mapping[str, object], known: Iterable[str], what: str) -> None:
        refuse_unknown(given, known, what)
        self._given = given

    def __contains__(self, name: str) -> bool:
        return self._given.get(name) is not None

    def is_named(self, name: str) -> bool:
        """Whether the field stands there, be it with null."""
        return name in self._given

    def need(self, name: str, parse: Callable[[object], T]) -> T:
        if name not in self:
            raise ApiProblem("invalid_parameter", f"{name}: expected a value", parameter=name)
        return parse_value(name, self._given[name], parse)

    def get(self, name: str, parse: Callable[[object], T], default: D) -> T | D:
        if name not in self:
            return default
        return parse_value(name, self._given[name], parse)

    def get_list(self, name: str, parse: Callable[[object], T]) -> tuple[T, ...] | None:
        """A list of values; None when it is not given."""
        if name not in self:
            return None
        values = self._given[name]
        if not isinstance(values, list) or not 0 < len(values) <= LIST_MAX:
            raise expected(name, f"a list of 1 to {LIST_MAX:,} entries", values)
        return tuple(parse_value(f"{name}[{n}]", value, parse) for n, value in enumerate(values))


def parse_value(name: str, value: object, parse: Callable[[object], T]) -> T:
    """One value by one of the parsers that raise Expected."""
    try:
        return parse(value)
    except Expected as exc:
        raise expected(name, exc.expected, exc.found or value, exc.hint) from None


def parse_bool(value: object) -> bool:
    """JSON true or false, or their text in a query."""
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    raise Expected("true or false")


def count_parser(least: int, most: int) -> Callable[[object], int]:
    """A parser of whole numbers in a range."""

    def parse(value: object) -> int:
        number = value
        if isinstance(value, str) and _COUNT.fullmatch(value):
            number = int(value)
        if not isinstance(number, int) or isinstance(number, bool) or not least <= number <= most:
            raise Expected(f"a whole number from {least} to {most:,}")
        return number

    return parse


def parse_any_text(value: object) -> str:
    """Text to compare with, up to 512 characters."""
    if not isinstance(value, str) or not 0 < len(value) <= 512 or _has_surrogates(value):
        raise Expected("text of 1 to 512 characters")
    return value


def _has_surrogates(text: str) -> bool:
    """Halves of characters, which no encoding can write."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def parse_moment_us(value: object) -> int:
    """An RFC 3339 instant, or a date, which is its first instant in UTC; from 1970 to 9998.

    Periods around it, in any time zone, are dates that can still be written.
    """
    moment_us = _parse_moment_us(value)
    if not 0 <= moment_us < MOMENT_END_US:
        raise Expected("an instant from 1970 to 9998")
    return moment_us


def _parse_moment_us(value: object) -> int:
    if isinstance(value, str) and _DATE.fullmatch(value):
        try:
            moment = datetime.fromisoformat(value).replace(tzinfo=UTC)
        except ValueError as exc:
            raise Expected("a date such as 2026-01-05", hint=str(exc)) from None
        return int(moment.timestamp()) * 1_000_000
    try:
        return parse_instant_us(value)
    except Expected as exc:
        form = "an instant such as 2026-01-05T00:00:00Z, or a date"
        raise Expected(form, hint=exc.hint) from None


def expiry_parser(now_us: int) -> Callable[[object], int]:
    """When something ends: a duration from now (`30d`), or an instant or date to come."""

    def parse(value: object) -> int:
        form = "a duration such as 30d, or an instant to come such as 2030-01-01T00:00:00Z"
        try:
            return now_us + parse_duration_us(value)
        except Expected as exc:
            if isinstance(value, str) and value[:4].isdigit() and "-" in value:
                try:
                    moment_us = parse_moment_us(value)
                except Expected as wrong:
                    raise Expected(form, hint=wrong.hint) from None
                if moment_us <= now_us:
                    raise Expected(form, hint="that is in the past") from None
                return moment_us
            raise Expected(form, hint=exc.hint) from None

    return parse
