"""Views: answers of the operator's own shape, made from usage figures.

A text of a view's body that is one `{name}` becomes that value with its type;
a text that holds more becomes text. Names are checked when the configuration is
read (gateway/config/compile_views.py). Must not know HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from gateway.core.book import Book, View
from gateway.core.instants import iso
from gateway.core.outcomes import CHARGED, CLIENT_GONE, CONTINUED
from gateway.store.sums import RequestRow

_INNER = re.compile(r"\{([A-Za-z0-9_-]+)\}")
_OUTER = re.compile(r"\{([^{}]+)\}")
_FREE = frozenset((CONTINUED,))  # further events of a request that was counted before


class Names:
    """What the names of a view stand for, for one account at one moment."""

    def __init__(
        self,
        usage: Mapping[str, Any],
        book: Book,
        requests: list[RequestRow],
        now_us: int,
        given: Mapping[str, str],
    ) -> None:
        self._usage = usage
        self._book = book
        self._requests = requests
        self._now_us = now_us
        self._given = given  # parameters of query and path
        self._heads: Mapping[str, Callable[[str], object]] = {
            "meter": self._meter,
            "requests": self._request_count,
            "setting": lambda name: self._usage["settings"].get(name),
        }

    def value(self, name: str) -> object:
        """A JSON value; None for what there is not."""
        if name in self._given:
            return self._given[name]
        head, _, rest = name.partition(".")
        if rest:
            find = self._heads.get(head)
            return None if find is None else find(rest)
        if name == "month":
            return iso(self._now_us)[:7]
        if name == "time":
            return iso(self._now_us)
        if name == "cap":
            cap = self._usage["spending_cap"]
            return None if cap is None else _number(cap)
        return self._usage.get(name)

    def _meter(self, rest: str) -> object:
        name, _, figure = rest.rpartition(".")
        meter = self._usage["meters"].get(name)
        if meter is None:  # neither in the plan nor used: nothing of it yet
            return 0 if figure in ("used", "in_flight", "overage", "projected") else None
        if figure in ("period_start", "period_end"):
            return meter["period"][figure.removeprefix("period_")]
        value = meter.get(figure)
        return value if figure == "title" else _number(value)

    def _request_count(self, rest: str) -> int:
        operation, _, which = rest.rpartition(".")
        rows = [row for row in self._requests if row.operation == operation]
        if which == "blocked":
            return sum(row.times for row in rows if row.is_refused and self._is_budget(row))
        if which == "total":
            return sum(
                row.times
                for row in rows
                if row.outcome not in _FREE and (not row.is_refused or "blocked:" in row.outcome)
            )
        outcomes = (CHARGED, CLIENT_GONE) if which == CHARGED else (which,)
        return sum(row.times for row in rows if not row.is_refused and row.outcome in outcomes)

    def _is_budget(self, row: RequestRow) -> bool:
        """Whether a quota refused it, not a rate."""
        name = row.outcome.removeprefix("blocked:").partition("@")[0]
        return name == "spending_cap" or name in self._book.meters


def _number(value: object) -> object:
    """Exact decimal text as a JSON number where a JSON number can hold it, else as text."""
    if not isinstance(value, str) or not re.fullmatch(r"-?\d+\.\d+", value):
        return value
    number = float(value)
    digits = value.replace(".", "").replace("-", "").strip("0")
    return number if len(digits) <= 15 else value


def render(view: View, names: Names) -> tuple[object, dict[str, str]]:
    """Body and headers of a view."""
    headers = {name: _header(_text(value, names)) for name, value in view.headers}
    return _filled(view.body, names), headers


def _header(value: object) -> str:
    """One line, whatever a caller put into the path."""
    text = "" if value is None else _shown(value)
    return "".join(character for character in text if character.isprintable())


def _shown(value: object) -> str:
    """A value inside a text, as JSON would write it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _filled(value: object, names: Names) -> object:
    if isinstance(value, dict):
        return {key: _filled(entry, names) for key, entry in value.items()}
    if isinstance(value, list):
        return [_filled(entry, names) for entry in value]
    return _text(value, names) if isinstance(value, str) else value


def _text(text: str, names: Names) -> object:
    """A text with its names filled in, inner ones first."""
    whole = _OUTER.fullmatch(_with_inner(text, names))
    if whole is not None:
        return names.value(whole[1])

    def shown(found: re.Match[str]) -> str:
        value = names.value(found[1])
        return "" if value is None else _shown(value)

    return _OUTER.sub(shown, _with_inner(text, names))


def _with_inner(text: str, names: Names) -> str:
    """Parameters in inner braces: `{meter.{kind}.used}` is `{meter.make.used}`."""
    return re.sub(
        r"\{[^{}]*\{[^{}]*\}[^{}]*\}",
        lambda outer: "{" + _INNER.sub(lambda m: str(names.value(m[1])), outer[0][1:-1]) + "}",
        text,
    )


def chosen_parameters(view: View, query: Mapping[str, str]) -> dict[str, str]:
    """The view's parameters with their defaults.

    Raises ValueError for one that the view has not, or a value that it does not know.
    """
    known = dict(view.parameters)
    for name, value in query.items():
        if name not in known:
            text = ", ".join(known) or "none"
            raise ValueError(f"{name[:64]}: expected no such parameter (known: {text})")
        if value not in known[name]:
            text = ", ".join(known[name])
            raise ValueError(f"{name}: expected one of {text}, found {value[:64]!r}")
    return {name: query.get(name, values[0]) for name, values in known.items()}
