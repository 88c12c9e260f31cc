"""One request on its way through the gateway.

One slotted object per request, filled in by the steps in the order of
proxy/handler.py: head, identify, route, price, admit, forward, settle. It is
also what the hot state is asked with (state/base.py: Ask).
"""

from __future__ import annotations

from asyncio import Future
from typing import TYPE_CHECKING

from aiohttp.streams import StreamReader
from multidict import CIMultiDictProxy

from gateway.core.book import Book, Route
from gateway.core.limits import RateLimit
from gateway.core.pricing import Charges, Counted
from gateway.core.target import Target
from gateway.state.base import AccountState, Hold, Posting

if TYPE_CHECKING:
    from gateway.proxy.caller import Caller
    from gateway.proxy.connection import ClientConnection
    from gateway.proxy.limit_set import LimitSet
    from gateway.proxy.measure import Measure
    from gateway.proxy.memo import HeadMemo

NO_LENGTH = -1  # the body is chunked
NO_BODY = 0


class Exchange:
    """A request, what was decided of it, and what became of it."""

    __slots__ = (
        # the client's side
        "book", "connection", "payload", "method", "is_http11", "keep_alive",
        "time_us", "event_id", "request_id",
        # from the head (proxy/head.py)
        "target", "host", "host_header", "headers", "kept", "body_length", "expects_continue",
        "is_websocket", "credentials", "cookie", "query", "source", "forwarded_for", "te_trailers",
        # decided on the path
        "digest", "memo", "caller", "account", "route", "project", "charges", "limits",
        "limit_set", "hold", "open_seq", "counted", "measure", "body",
        "postings", "parameters",
        # what became of it
        "status", "outcome", "head_sent", "bytes_in", "bytes_out", "sent_us", "answered_us",
        "body_error", "settling",
    )  # fmt: skip

    # Set by read_head; nothing reads them before.
    is_http11: bool
    target: Target
    host: str  # lower case, no port
    host_header: str
    headers: CIMultiDictProxy[str]
    kept: list[tuple[bytes, bytes]]  # (name, value) of what may go on
    body_length: int
    expects_continue: bool
    is_websocket: bool
    te_trailers: bool
    credentials: list[tuple[bytes, tuple[bytes, bytes]]]  # lower name, (name, value)
    cookie: bytes | None
    query: str | None
    forwarded_for: bytes | None
    # Set by identify and route.
    caller: Caller
    account: AccountState
    route: Route
    limits: tuple[RateLimit, ...]
    limit_set: LimitSet
    parameters: dict[str, str]  # of the path of an answer of our own
    status: int
    bytes_in: int
    bytes_out: int
    memo: HeadMemo | None  # of this very head, when it may be kept
    digest: bytes | None  # of the key that was found

    def __init__(
        self,
        book: Book,
        connection: ClientConnection,
        payload: StreamReader,
        time_us: int,
        event_id: str,
    ) -> None:
        self.book = book
        self.connection = connection
        self.payload = payload
        self.time_us = time_us
        self.event_id = self.request_id = event_id
        self.keep_alive = not connection.server.is_draining
        self.source = connection.peer
        self.project = ""
        self.charges: Charges = ()
        self.counted: tuple[Counted, ...] = ()
        self.postings: tuple[Posting, ...] = ()  # what it was charged in the end
        self.measure: Measure | None = None  # of a price that is measured
        self.body: bytes | None = None  # that a price has looked into
        self.hold: Hold | None = None
        self.settling: Future[None] | None = None  # where that takes a while
        self.open_seq = 0
        self.status = 0
        self.outcome = ""
        self.head_sent = False
        self.bytes_in = self.bytes_out = 0
        self.sent_us = self.answered_us = 0
        self.body_error: str | None = None
        self.method: str = ""
        self.digest = None
        self.memo = None

    def __repr__(self) -> str:
        return f"<Exchange {self.event_id} {self.method} {self.outcome or 'in flight'}>"

    @property
    def key_id(self) -> str:
        return self.caller.key_id

    @property
    def user(self) -> str:
        return self.caller.user

    @property
    def route_name(self) -> str:
        return self.route.name
