"""Measuring: the figures of one request, before it is forwarded and after.

Question: what is a request with a measured price charged? One `Measure` per
such request implements core.pricing.Facts. Invariants: what the request says
is read before anything is admitted; what stands twice with different values
has no price; a figure that the backend never gave falls to the rule for
missing ones, but costs nothing where the backend itself failed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

import orjson

from gateway.core.figures import Figure, look_up
from gateway.core.pricing import (
    FREE_COST,
    Charges,
    Cost,
    Counted,
    Price,
    Ratio,
    Rule,
    Unpriceable,
    holds,
)
from gateway.core.units import AMOUNT_MAX
from gateway.proxy.bodies import RequestBody
from gateway.proxy.exchange import Exchange
from gateway.proxy.tap import AnswerTap

if TYPE_CHECKING:
    from gateway.proxy.upstream import UpstreamConnection

MEANS_MAX = 100_000  # of accounts and rules; the estimates begin anew beyond
MEAN_WEIGHT = 8  # the newest figure's share in a route's recent mean is one eighth


class Means:
    """Recent mean quantities by account and rule, in whole numbers; for `reserve: average`.

    Each account has its own: one customer's huge calls are no other's estimate.
    """

    def __init__(self) -> None:
        self._means: dict[tuple[str, str], int] = {}

    def get(self, account: str, rule: Rule) -> Ratio | None:
        mean = self._means.get((account, rule.id))
        return None if mean is None else (mean, 1)

    def note(self, account: str, rule: Rule, found: Ratio) -> None:
        """Take the newest quantity into the mean, rounded up."""
        newest = -(-found[0] // found[1])
        if len(self._means) >= MEANS_MAX:
            self._means.clear()
        mean = self._means.get((account, rule.id), newest)
        mixed = -(-(mean * (MEAN_WEIGHT - 1) + newest) // MEAN_WEIGHT)
        self._means[account, rule.id] = mixed


class Measure:
    """One request's figures and what was reserved for it."""

    __slots__ = (
        "x", "price", "means", "parameters", "body", "tap", "head", "reserved", "socket_bytes",
        "socket_messages", "ended_us", "is_broken", "is_further", "_raw", "_document",
    )  # fmt: skip

    def __init__(
        self, x: Exchange, price: Price, means: Means, parameters: Mapping[str, str]
    ) -> None:
        self.x = x
        self.price = price
        self.means = means
        self.parameters = parameters
        self.body: RequestBody | None = None
        self.tap: AnswerTap | None = None  # of an answer that comes in pieces
        self.head: UpstreamConnection | None = None  # whose head the answer's is
        self.reserved: Cost = FREE_COST
        self.socket_bytes = self.socket_messages = 0
        self.ended_us = 0
        self.is_broken = False  # the backend failed: what it never said costs nothing
        self.is_further = False  # a WebSocket that was charged before
        self._raw: bytes | None = None  # the body of an answer that came whole
        self._document: object = None

    # -- before ------------------------------------------------------------

    def reserve(self) -> None:
        """Set what is held, in the order of the price's meters. Raises Unpriceable.

        A meter that no rule charges for this request is left out: an exempt account is
        served however overdrawn it is.
        """
        cost = self.price.reserve(self)
        if self.price.lone is None:
            charged = {meter for meter, _ in cost.charges}
            charged |= {entry.rule.meter for entry in cost.counted}
            meters = [meter for meter in self.price.meters if meter in charged]
            cost = self._ordered(cost, meters)
        self.reserved = cost
        self.x.charges, self.x.counted = cost

    # -- after -------------------------------------------------------------

    def watch(self, upstream: UpstreamConnection) -> None:
        """The answer's head is there; look into its body from now on."""
        self.head = upstream
        if self.price.reads_answer and not upstream.complete:
            self._open_tap(upstream)

    def _open_tap(self, upstream: UpstreamConnection) -> AnswerTap:
        content_type = header_of(upstream.lines, b"content-type") or ""
        coding = header_of(upstream.lines, b"content-encoding") or ""
        most = self.x.route.inspect_max_bytes
        self.tap = AnswerTap(self.price.figures(), content_type, coding, most)
        return self.tap

    def feed(self, data: bytes) -> None:
        """A piece of the answer's body, or all of it."""
        if self.tap is not None:
            self.tap.feed(data)
        elif self.price.reads_answer:
            self._raw = data

    def settle(self, now_us: int, *, is_broken: bool) -> tuple[Charges, tuple[Counted, ...], str]:
        """The exact charges and counts, as they were reserved, and the outcome's name."""
        self.ended_us = now_us
        if not is_broken and not self._is_answered():
            return *self.reserved, ""
        self.is_broken = is_broken
        self._finish()
        price = self.price
        cost, name = price.settle(self, self.reserved)
        if price.has_means and not name:
            for rule in price.rules:
                if rule.reserve.average and holds(rule.when, self):
                    self._note_mean(rule)
        if price.lone is None or not cost.charges:
            cost = self._ordered(cost, [meter for meter, _ in self.reserved.charges])
        return cost.charges, cost.counted, name

    def _finish(self) -> None:
        """Read what the answer's body says; it is all there, or will not come."""
        if self._raw is not None:
            assert self.head is not None
            if len(self._raw) <= self.x.route.inspect_max_bytes and _is_plain_json(self.head):
                try:
                    self._document = orjson.loads(self._raw)
                except orjson.JSONDecodeError:
                    self._document = None
            else:
                self._open_tap(self.head).feed(self._raw)
            self._raw = None
        if self.tap is not None:
            self.tap.finish()

    def find(self, figure: Figure) -> object:
        """What stands at a figure of the answer's body; None where nothing does."""
        if self.tap is not None:
            return self.tap.find(figure)
        return look_up(self._document, figure.steps) if figure.source != "stream.json" else None

    def _note_mean(self, rule: Rule) -> None:
        for figure in rule.of:
            found = self.number(figure)
            if found is not None:
                self.means.note(self.x.account.account.id, rule, found)
                return

    def _ordered(self, cost: Cost, meters: list[str]) -> Cost:
        """These meters and their counters in the price's order: 0 where nothing is charged."""
        amounts = dict(cost.charges)
        counts = {id(entry.rule): entry for entry in cost.counted}
        counters = [r for r in self.price.rules if r.counter and r.meter in meters]
        return Cost(
            tuple([(meter, amounts.get(meter, 0)) for meter in meters]),
            tuple([counts.get(id(rule)) or Counted(rule, 0) for rule in counters]),
        )

    def further(self) -> Measure:
        """The same connection's next interval."""
        measure = Measure(self.x, self.price.further, self.means, self.parameters)
        measure.body, measure.head, measure.is_further = self.body, self.head, True
        return measure

    # -- core.pricing.Facts --------------------------------------------------

    def average(self, rule: Rule) -> Ratio | None:
        return self.means.get(self.x.account.account.id, rule)

    def text(self, figure: Figure) -> str | None:
        """What stands there, as JSON would write a number, true, false or null."""
        value = _VALUES[figure.source](self, figure)
        if value is None or isinstance(value, str):
            return value
        return _as_json(value)

    def number(self, figure: Figure) -> Ratio | None:
        """An exact quantity; None for what is missing, and in an answer for what is no number.

        Raises Unpriceable for what a request has there and is no quantity: somebody else
        may read it as one.
        """
        count = _COUNTS.get(figure.source)
        if count is not None:
            found = count(self, figure)
            return None if found is None else (found, 1)
        if figure.source == "open.seconds":
            return max(self.ended_us - self.x.time_us, 0), 1_000_000
        value = _VALUES[figure.source](self, figure)
        number = exact_number(value)
        if number is None and value is not None and figure.at != "answer":
            raise Unpriceable(f"{figure}: expected a number from 0 to 2^53, in plain digits")
        return number

    def has_failed(self) -> bool:
        """Whether nothing was to be had: a failed backend, or an answer that is no success."""
        return self.is_broken or not 200 <= self.x.status < 300

    def _is_answered(self) -> bool:
        """Whether the answer is there as far as the price's conditions look at it.

        A client that goes away before that cannot have a condition decided in its favour.
        """
        return self.head is not None and (self.head.complete or not self.price.looks_inside)


# Figures that are counted here: how many, or None where there is nothing to count.
_COUNTS: Mapping[str, Callable[[Measure, Figure], int | None]] = {
    "request.count": lambda m, _: 0 if m.is_further else 1,
    "request.bytes": lambda m, _: m.x.bytes_in or max(m.x.body_length, 0),
    "request.items": lambda m, figure: None if m.body is None else m.body.items(figure),
    "request.junit": lambda m, _: None if m.body is None else m.body.results(),
    "answer.bytes": lambda m, _: m.x.bytes_out,
    "answer.items": lambda m, figure: _length(m.find(figure)),
    "stream.events": lambda m, _: 0 if m.tap is None else m.tap.events,
    "socket.bytes": lambda m, _: m.socket_bytes,
    "socket.messages": lambda m, _: m.socket_messages,
    "bytes": lambda m, _: m.x.bytes_in + m.x.bytes_out,
}
# What stands at the others: a text, a JSON value, or None where nothing does.
_VALUES: Mapping[str, Callable[[Measure, Figure], object]] = {
    "request.header": lambda m, f: _only(m.x.headers.getall(f.name, []), f),
    "request.query": lambda m, f: _only(query_values(m.x.query, f.name), f),
    "request.path": lambda m, f: m.parameters.get(f.name),
    "request.method": lambda m, _: m.x.method,
    "request.json": lambda m, f: None if m.body is None else look_up(m.body.document(), f.steps),
    "request.form": lambda m, f: (
        None if m.body is None else _only(m.body.fields().get(f.name, []), f)
    ),
    "account.setting": lambda m, f: m.x.account.account.setting(m.x.book.settings[f.name]),
    "account.plan": lambda m, _: m.x.account.plan.name,
    "caller.kind": lambda m, _: m.x.caller.kind,
    "answer.status": lambda m, _: str(m.x.status),
    "answer.header": lambda m, f: (
        None if m.head is None else header_of(m.head.lines, f.name.encode())
    ),
    "answer.json": lambda m, f: m.find(f),
    "stream.json": lambda m, f: m.find(f),
}


def _length(value: object) -> int | None:
    return len(value) if isinstance(value, list) else None


def _is_plain_json(head: UpstreamConnection) -> bool:
    """Whether a body is neither compressed nor an event stream."""
    memo = head.memo
    if memo is None:
        return _says_plain(head.lines)
    if memo.is_plain is None:
        memo.is_plain = _says_plain(memo.lines)
    return memo.is_plain


def _says_plain(lines: list[bytes]) -> bool:
    for line in lines:
        if line[:8].lower() == b"content-":
            name = line[:17].lower()
            if name.startswith(b"content-encoding:") or (
                name.startswith(b"content-type:") and b"text/event-stream" in line.lower()
            ):
                return False
    return True


def _only(values: list[str], figure: Figure) -> str | None:
    """The one value; a backend might believe another than we do."""
    if not values:
        return None
    if len(set(values)) > 1:
        raise Unpriceable(f"{figure}: expected one value, found {len(values)}")
    return values[0]


def _as_json(value: object) -> str | None:
    if value is True or value is False:
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float | Decimal) else None


def exact_number(value: object) -> Ratio | None:
    """A number or its plain text as a ratio; None for anything else or beyond 2^53."""
    if value.__class__ is int:
        return (value, 1) if 0 <= value <= AMOUNT_MAX else None
    if isinstance(value, bool) or not isinstance(value, float | str | Decimal):
        return None
    text = value.strip() if isinstance(value, str) else str(value)
    if len(text) > 40 or not text[:1].isdigit() or not text.isascii() or "_" in text:
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    if not number.is_finite() or not 0 <= number <= AMOUNT_MAX or number.adjusted() < -30:
        return None
    return number.as_integer_ratio()


def header_of(lines: list[bytes], name: bytes) -> str | None:
    """A header's value among the backend's header lines; the first where there are several."""
    prefix = name + b":"
    for line in lines:
        if line[: len(prefix)].lower() == prefix:
            return line[len(prefix) :].strip().decode("latin-1")
    return None


def query_values(query: str | None, name: str) -> list[str]:
    """All values of a query parameter, decoded."""
    if not query:
        return []
    pairs = (pair.partition("=") for pair in query.split("&"))
    return [unquote_plus(value) for key, _, value in pairs if unquote_plus(key) == name]
