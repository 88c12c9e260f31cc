"""Measuring: the figures of one request, before it is forwarded and after.

Question: what is a request with a measured price charged? One `Measure` per
such request implements core.pricing.Facts. Invariants: what the request says
is read before anything is admitted; what stands twice with different values
has no price; a figure that the backend never gave falls to the rule for
missing ones, but costs nothing where the backend itself failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

from gateway.core.figures import Figure, look_up
from gateway.core.pricing import FREE_COST, Charges, Cost, Counted, Price, Ratio, Rule, Unpriceable
from gateway.core.refusals import Refusal
from gateway.core.units import AMOUNT_MAX
from gateway.proxy.bodies import RequestBody
from gateway.proxy.exchange import NO_BODY, NO_LENGTH, Exchange
from gateway.proxy.tap import AnswerTap

if TYPE_CHECKING:
    from gateway.proxy.upstream import UpstreamConnection

# Larger bodies are parsed in a thread: 256 KiB of JSON takes about a millisecond.
THREAD_BYTES_MIN = 262_144
MEAN_WEIGHT = 8  # the newest figure's share in a route's recent mean is one eighth
_ZERO: Ratio = (0, 1)
_MISSING = object()


class Means:
    """Recent mean quantities by rule, in whole numbers; for `reserve: average`."""

    def __init__(self) -> None:
        self._means: dict[str, int] = {}

    def get(self, rule: Rule) -> Ratio | None:
        mean = self._means.get(rule.id)
        return None if mean is None else (mean, 1)

    def note(self, rule: Rule, found: Ratio) -> None:
        """Take the newest quantity into the mean, rounded up."""
        newest = -(-found[0] // found[1])
        mean = self._means.get(rule.id, newest)
        self._means[rule.id] = -(-(mean * (MEAN_WEIGHT - 1) + newest) // MEAN_WEIGHT)


class Measure:
    """One request's figures and what was reserved for it."""

    __slots__ = (
        "x", "price", "means", "parameters", "body", "tap", "head", "reserved", "socket_bytes",
        "socket_messages", "ended_us", "is_broken", "is_further",
    )  # fmt: skip

    def __init__(
        self, x: Exchange, price: Price, means: Means, parameters: Mapping[str, str]
    ) -> None:
        self.x = x
        self.price = price
        self.means = means
        self.parameters = parameters
        self.body: RequestBody | None = None
        self.tap: AnswerTap | None = None
        self.head: UpstreamConnection | None = None  # whose head the answer's is
        self.reserved: Cost = FREE_COST
        self.socket_bytes = self.socket_messages = 0
        self.ended_us = 0
        self.is_broken = False  # the backend failed: what it never said costs nothing
        self.is_further = False  # a WebSocket that was charged before

    # -- before ------------------------------------------------------------

    def reserve(self) -> None:
        """Set what is held, in the order of the price's meters. Raises Unpriceable."""
        self.reserved = self._ordered(self.price.reserve(self))
        self.x.charges, self.x.counted = self.reserved

    # -- after -------------------------------------------------------------

    def watch(self, upstream: UpstreamConnection) -> None:
        """The answer's head is there; look into its body from now on."""
        self.head = upstream
        if self.price.reads_answer:
            content_type = header_of(upstream.lines, b"content-type") or ""
            coding = header_of(upstream.lines, b"content-encoding") or ""
            figures = self.price.figures()
            self.tap = AnswerTap(figures, content_type, coding, self.x.route.inspect_max_bytes)

    def feed(self, data: bytes) -> None:
        if self.tap is not None:
            self.tap.feed(data)

    def settle(self, now_us: int, *, is_broken: bool) -> tuple[Charges, tuple[Counted, ...], str]:
        """The exact charges and counts, as they were reserved, and the outcome's name."""
        self.ended_us = now_us
        if not is_broken and not self._is_answered():
            return *self.reserved, ""
        self.is_broken = is_broken
        if self.tap is not None:
            self.tap.finish()
        cost, name = self.price.settle(self, self.reserved)
        for rule in self.price.rules:
            if rule.reserve.average and not name:
                self._note_mean(rule)
        charges, counted = self._ordered(cost)
        return charges, counted, name

    def _note_mean(self, rule: Rule) -> None:
        for figure in rule.of:
            found = self.number(figure)
            if found is not None:
                self.means.note(rule, found)
                return

    def _ordered(self, cost: Cost) -> Cost:
        """Every meter and counter of the price, in its order: 0 where nothing is charged."""
        amounts = dict(cost.charges)
        counts = {id(entry.rule): entry for entry in cost.counted}
        return Cost(
            tuple([(meter, amounts.get(meter, 0)) for meter in self.price.meters]),
            tuple(
                [
                    counts.get(id(rule)) or Counted(rule, 0)
                    for rule in self.price.rules
                    if rule.counter
                ]
            ),
        )

    def further(self) -> Measure:
        """The same connection's next interval."""
        measure = Measure(self.x, self.price.further, self.means, self.parameters)
        measure.body, measure.head, measure.is_further = self.body, self.head, True
        return measure

    # -- core.pricing.Facts --------------------------------------------------

    def average(self, rule: Rule) -> Ratio | None:
        return self.means.get(rule)

    def text(self, figure: Figure) -> str | None:
        """What stands there, as JSON would write a number, true, false or null."""
        value = self._value(figure)
        if value is _MISSING:
            return None
        return value if isinstance(value, str) else _as_json(value)

    def number(self, figure: Figure) -> Ratio | None:
        """An exact quantity; None for what is missing, negative or no number."""
        count = self._count(figure)
        if count is not None:
            return count
        found = exact_number(self._value(figure))
        if found is None and figure.at == "answer" and self._is_failed():
            return _ZERO
        return found

    def _is_failed(self) -> bool:
        """Whether nothing was to be had: a failed backend, or an answer that is no success."""
        return self.is_broken or not 200 <= self.x.status < 300

    def _is_answered(self) -> bool:
        """Whether the answer is there as far as the price's conditions look at it.

        A client that goes away before that cannot have a condition decided in its favour.
        """
        if self.head is None:
            return False
        conditions = [self.price.charge_when, *(c for _, c in self.price.outcomes)]
        inside = any(
            test.figure.source in ("answer.json", "stream.json")
            for condition in conditions
            for test in condition
        )
        return self.head.complete or not inside

    def _count(self, figure: Figure) -> Ratio | None:
        """Figures that are counted here."""
        x, source = self.x, figure.source
        if source == "request.count":
            return (0 if self.is_further else 1), 1
        if source == "request.bytes":
            return (x.bytes_in or max(x.body_length, 0)), 1
        if source == "answer.bytes":
            return x.bytes_out, 1
        if source == "bytes":
            return x.bytes_in + x.bytes_out, 1
        if source == "socket.bytes":
            return self.socket_bytes, 1
        if source == "socket.messages":
            return self.socket_messages, 1
        if source == "open.seconds":
            return max(self.ended_us - x.time_us, 0), 1_000_000
        if source == "stream.events":
            return (self.tap.events if self.tap is not None else 0), 1
        if source == "request.junit":
            found = self.body.results() if self.body is not None else None
        elif source == "request.items":
            found = self.body.items(figure) if self.body is not None else None
        elif source == "answer.items" and self.tap is not None:
            value = self.tap.find(figure)
            found = len(value) if isinstance(value, list) else None
        else:
            return None
        return None if found is None else (found, 1)

    def _value(self, figure: Figure) -> object:
        """What stands at a figure, or _MISSING."""
        x, source, name = self.x, figure.source, figure.name
        if source == "request.json":
            return _there(_look(self.body, figure))
        if source in ("answer.json", "stream.json"):
            return _there(self.tap.find(figure) if self.tap is not None else None)
        if source == "answer.status":
            return str(x.status)
        if source == "answer.header":
            found = header_of(self.head.lines, name.encode()) if self.head is not None else None
            return _there(found)
        if source == "request.header":
            return _only(x.headers.getall(name, []), figure)
        if source == "request.query":
            return _only(query_values(x.query, name), figure)
        if source == "request.form":
            return _only(self.body.fields().get(name, []) if self.body else [], figure)
        if source == "request.path":
            return _there(self.parameters.get(name))
        if source == "account.setting":
            return x.account.account.setting(x.book.settings[name])
        if source == "account.plan":
            return x.account.plan.name
        return x.caller.kind if source == "caller.kind" else x.method


def _look(body: RequestBody | None, figure: Figure) -> object:
    return None if body is None else look_up(body.document(), figure.steps)


def _there(value: object) -> object:
    return _MISSING if value is None else value


def _only(values: list[str], figure: Figure) -> object:
    """The one value; a backend might believe another than we do."""
    if not values:
        return _MISSING
    if len(set(values)) > 1:
        raise Unpriceable(f"{figure}: expected one value, found {len(values)}")
    return values[0]


def _as_json(value: object) -> str | None:
    if value is True or value is False:
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else None


def exact_number(value: object) -> Ratio | None:
    """A number or its plain text as a ratio; None for anything else or beyond 2^53."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, int):
        return (value, 1) if 0 <= value <= AMOUNT_MAX else None
    text = value.strip() if isinstance(value, str) else repr(value)
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


async def read_body(measure: Measure) -> Refusal | None:
    """Take the whole body in and parse what the price asks for.

    The exchange keeps it as `body`, to be forwarded as it came. In a task: it
    may take long, and has the body's own deadlines.
    """
    x = measure.x
    if x.body_length == NO_BODY:
        return None
    most = x.route.inspect_max_bytes
    if x.route.max_body_bytes is not None:
        most = min(most, x.route.max_body_bytes)
    if x.body_length > most:
        return _too_large(most)
    try:
        data = await _whole_body(x, most)
    except TimeoutError:
        return Refusal("request_timeout")
    except Exception:  # whatever the payload raises means: it will not be whole
        return Refusal("bad_request", detail="The body broke off or cannot be parsed.")
    if data is None:
        return _too_large(most)
    x.body = data
    content_type = x.headers.get("Content-Type", "")
    encoding = ", ".join(x.headers.getall("Content-Encoding", []))
    sources = frozenset(figure.source for figure in measure.price.figures())

    def parse() -> RequestBody:
        body = RequestBody(data, content_type, encoding, most)
        body.read(sources)
        return body

    try:
        if len(data) < THREAD_BYTES_MIN:
            measure.body = parse()
        else:
            measure.body = await asyncio.get_running_loop().run_in_executor(None, parse)
    except Unpriceable as exc:
        return Refusal("unpriceable", detail=_sentence(exc))
    return None


def unpriceable(exc: Unpriceable) -> Refusal:
    """Why a request has no price, said to the caller."""
    return Refusal("unpriceable", detail=_sentence(exc))


def _sentence(exc: Unpriceable) -> str:
    text = str(exc)
    return f"{text[:1].upper()}{text[1:300]}."


def _too_large(most: int) -> Refusal:
    return Refusal("body_too_large", detail=f"A body that is priced may have {most} bytes.")


async def _whole_body(x: Exchange, most: int) -> bytes | None:
    """All of the body; None when it is longer than `most`."""
    if x.expects_continue:
        x.connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        x.expects_continue = False
    x.connection.expect_body()
    chunks: list[bytes] = []
    size = 0
    while not x.payload.at_eof():
        data = await x.payload.readany()
        size += len(data)
        if size > most:
            return None
        if x.body_length == NO_LENGTH and x.connection.is_wasteful(size):
            raise ValueError("a chunked body that is mostly framing")
        chunks.append(data)
    broken = x.payload.exception()
    if broken is not None:
        raise broken
    x.connection.expect_nothing()
    return b"".join(chunks)
