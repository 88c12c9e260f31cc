"""One connection to a backend: bytes in, the parsed answer out.

Question: what has the backend answered so far? Invariant: an answer is
`complete` only when its framing says so; anything else that ends it is an
`error`. Header lines are filtered and kept as bytes, ready to be written to
the client; a long body of known length is passed on without the parser. Must
not know callers, prices or the client's connection.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Generator
from types import coroutine
from typing import TYPE_CHECKING, Any, cast

import httptools

from gateway.proxy.answer_memo import AnswerMemo
from gateway.proxy.frames import FrameCounter
from gateway.proxy.ticker import NEVER, ticks

if TYPE_CHECKING:
    from gateway.proxy.pool import Pool

# From this length on a body of known length goes past the parser: 64 KiB is
# where copying it once more begins to show (bench/transfer.py).
RAW_BODY_MIN = 65_536
INTERIMS_MAX = 10  # 1xx answers to one request; more is a backend gone wrong
HEAD_BYTES_MAX = 65_536  # of header lines in one answer

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search

# Meanings of the backend's header names; what is not here passes.
DROP, LENGTH, CODING, CONNECTION, DATE, TRAILER = range(1, 7)
HOP_BY_HOP: dict[bytes, int] = {
    b"content-length": LENGTH,
    b"transfer-encoding": CODING,
    b"connection": CONNECTION,
    b"date": DATE,
    b"trailer": TRAILER,
    b"keep-alive": DROP,
    b"proxy-connection": DROP,
    b"proxy-authenticate": DROP,
    b"te": DROP,
    b"upgrade": DROP,
}
_FORBIDDEN_TRAILERS = frozenset(
    (b"content-length", b"transfer-encoding", b"host", b"authorization", b"set-cookie",
     b"content-encoding", b"content-type", b"content-range", b"trailer", b"connection",
     b"cache-control", b"www-authenticate", b"proxy-authenticate", b"te", b"upgrade")
)  # fmt: skip


class UpstreamConnection(asyncio.Protocol):
    """Used for one exchange after another; `begin` makes it ready for the next."""

    __slots__ = (
        "pool", "transport", "meanings", "deadline", "total_deadline", "is_reused", "parser",
        "waiter", "resume", "is_waited_for", "news", "method", "status", "reason", "lines",
        "head_bytes", "length",
        "is_chunked", "has_date", "head_done", "complete", "error", "keep_alive", "chunks",
        "trailers", "interims", "in_interim", "interim_count", "received", "raw_left", "extra",
        "got_bytes", "tunnel_data", "on_tunnel", "write_paused", "drain_waiter", "dropped", "memo",
        "drain_s", "frames",
    )  # fmt: skip

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.transport: asyncio.Transport | None = None
        self.meanings = pool.meanings
        self.parser: httptools.HttpResponseParser | None = None
        self.is_reused = False
        self.waiter: asyncio.Future[None] | None = None
        # Called when there is news; see ClientConnection.resume.
        self.resume: Callable[[], None] | None = None
        self.is_waited_for = False
        self.drain_waiter: asyncio.Future[None] | None = None
        self.write_paused = False
        self.deadline = self.total_deadline = NEVER
        self.complete = True
        self.news = False
        self.error = ""
        self.on_tunnel: asyncio.Transport | None = None
        self.frames: FrameCounter | None = None  # of a measured tunnel
        self.begin("GET")
        self.complete = True

    def __repr__(self) -> str:
        state = self.error or ("idle" if self.complete else "busy")
        return f"<UpstreamConnection {self.pool.upstream.name} {state}>"

    # -- one exchange -----------------------------------------------------

    def begin(self, method: str) -> None:
        """Forget the last answer and get ready for the next."""
        if self.parser is None:
            self.parser = httptools.HttpResponseParser(self)
        self.method = method
        self.status = 0
        self.reason = b""
        self.lines: list[bytes] = []
        self.head_bytes = 0
        self.length = -1
        self.is_chunked = self.has_date = self.head_done = self.complete = False
        self.error = ""
        self.keep_alive = False
        self.chunks: list[bytes] = []
        self.trailers: list[bytes] = []
        self.dropped: bytes = b""
        self.interims: list[tuple[int, bytes, list[bytes]]] = []
        self.in_interim = False
        self.interim_count = self.received = self.raw_left = 0
        self.extra = self.got_bytes = self.news = False
        self.tunnel_data = b""
        self.memo: AnswerMemo | None = None  # of this answer's head, when it was known
        self.drain_s = 0.0  # how long the answer is read to its end when the client has gone

    @coroutine
    def wait(self) -> Generator[Any, Any, None]:
        """Until there is news: a head, body bytes, the end or an error."""
        if not self.news:
            if self.resume is None:  # in a task of asyncio's
                self.waiter = self.pool.loop.create_future()
                yield from self.waiter
            else:
                self.is_waited_for = True
                yield self
        self.news = False

    def take(self) -> bytes:
        """The body bytes that have come since the last call."""
        chunks, self.chunks = self.chunks, []
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def fail(self, error: str) -> None:
        """End the exchange with an error and the connection with it."""
        if not self.complete and not self.error:
            self.error = error
        if self.transport is not None:
            self.transport.abort()
        self._wake()

    def client_gone(self) -> None:
        """Nobody waits for the answer any more; a measured one is read on for a while."""
        if not self.drain_s or self.error or self.on_tunnel is not None:
            self.fail("client_gone")
            return
        drained = self.pool.ticker.now + ticks(self.drain_s)
        self.total_deadline = min(self.total_deadline, drained)
        self.deadline = min(self.deadline, self.pool.read_deadline())
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()
        self._wake()

    async def drain(self) -> None:
        """Until the backend takes more; returns at once when it is gone."""
        if self.write_paused and self.transport is not None:
            self.drain_waiter = self.pool.loop.create_future()
            try:
                await self.drain_waiter
            finally:
                self.drain_waiter = None

    def nudge(self) -> None:
        """Wake whoever waits, though nothing has come: time has passed."""
        self._wake()

    def _wake(self) -> None:
        self.news = True
        if self.is_waited_for:
            self.is_waited_for = False
            assert self.resume is not None
            self.resume()
        elif self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    # -- asyncio.Protocol -------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        until_close = self.head_done and self.length < 0 and not self.is_chunked
        if not self.complete:
            if until_close and exc is None and not self.error:
                self.complete = True
            elif not self.error:
                self.error = "closed"
        if self.drain_waiter is not None and not self.drain_waiter.done():
            self.drain_waiter.set_result(None)
        self.pool.lost(self)
        self._wake()

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False
        if self.drain_waiter is not None and not self.drain_waiter.done():
            self.drain_waiter.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self.on_tunnel is not None:
            self.received += len(data)
            if self.frames is not None:
                self.frames.feed(data)
            self.on_tunnel.write(data)
            return
        self.deadline = self.pool.read_deadline()
        if self.complete:
            # Nobody asked: a late extra byte, or an idle connection misused.
            self.extra = True
            if self.transport is not None:
                self.transport.abort()
            return
        if not self.got_bytes:
            self.got_bytes = True
            if data[:7] != b"HTTP/1."[: len(data)]:
                self.fail("bad_answer")
                return
            if self._is_known_head(data):
                self._wake()
                return
        if self.raw_left:
            self._raw_body(data)
        else:
            self._parse(data)
        if self.news:
            self._wake()

    def _is_known_head(self, data: bytes) -> bool:
        """Take the head from the pool's memo, if this is the head it had before.

        Equal bytes mean the same head, so nothing is parsed twice: backends often
        give the same head for as long as their clock shows the same second.
        """
        memo = self.pool.answer_memo
        if memo is None or not data.startswith(memo.head) or self.method == "HEAD":
            return False
        body = data[len(memo.head) :]
        if len(body) != memo.length:
            return False
        self.status, self.reason, self.lines = memo.status, memo.reason, memo.lines
        self.length = self.received = memo.length
        self.has_date = self.keep_alive = True
        self.chunks.append(body)
        self.head_done = self.complete = self.news = True
        self.memo = memo
        return True

    def _keep_head(self, data: bytes) -> None:
        """Remember the head of a whole and plain answer that came in one piece."""
        end = data.find(b"\r\n\r\n") + 4
        if (
            end > 3
            and len(data) - end == self.length
            and self.keep_alive
            and self.has_date
            and not self.extra
            and self.interim_count == 0
            and self.status not in (204, 304)
        ):
            self.pool.answer_memo = AnswerMemo(data[:end], self)

    def _raw_body(self, data: bytes) -> None:
        size = len(data)
        if size > self.raw_left:
            data = data[: self.raw_left]
            self.extra = True
            size = len(data)
        self.chunks.append(data)
        self.received += size
        self.raw_left -= size
        self.news = True
        if self.raw_left == 0:
            self.complete = True

    def _parse(self, data: bytes) -> None:
        assert self.parser is not None
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            self.tunnel_data = data[exc.args[0] :]
            self.news = True
            self.parser = None
        except httptools.HttpParserError:
            self.extra = True
            self.parser = None
            if not self.complete:
                self.fail("bad_answer")
        if self.complete or self.error or self.parser is None:
            if self.complete and self.method != "HEAD" and self.received == self.length > 0:
                self._keep_head(data)
            return
        if not self.head_done:
            self.head_bytes += len(data)
            if self.head_bytes > HEAD_BYTES_MAX:
                self.fail("bad_answer")
        if self.head_done and self.length > RAW_BODY_MIN:
            self.raw_left = self.length - self.received
            self.parser = None

    # -- httptools callbacks ----------------------------------------------

    def on_message_begin(self) -> None:
        if self.complete:
            self.extra = True

    def on_status(self, status: bytes) -> None:
        if not self.complete:
            self.reason += status

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.complete:
            return
        meaning = self.meanings.get(name.lower())
        if self.head_done:
            if name.lower() not in _FORBIDDEN_TRAILERS and meaning is None:
                self.trailers.append(b"%b: %b\r\n" % (name, value))
        elif meaning is None:
            self.lines.append(name + b": " + value + b"\r\n")
        elif meaning != DROP:
            self._special(meaning, value)

    def _special(self, meaning: int, value: bytes) -> None:
        if meaning == DATE:
            self.has_date = True
            self.lines.append(b"Date: %b\r\n" % value)
        elif meaning == LENGTH:
            if self.length >= 0 or not value.isdigit() or len(value) > 19:
                self.fail("bad_answer")
            else:
                self.length = int(value)
        elif meaning == CODING:
            if self.is_chunked or value.lower() != b"chunked":
                self.fail("bad_answer")
            self.is_chunked = True
        elif meaning == CONNECTION:
            if value.lower() not in (b"keep-alive", b"close"):
                self.dropped += b"," + value.lower()
        elif meaning == TRAILER:
            self.lines.append(b"Trailer: %b\r\n" % value)

    def on_headers_complete(self) -> None:
        if self.complete or self.error:
            return
        assert self.parser is not None
        status = self.parser.get_status_code()
        if self.dropped:
            self._drop_named()
        if 100 <= status < 200 and status != 101:
            self._interim(status)
            return
        if (self.is_chunked and self.length >= 0) or _CONTROL(self.reason):
            self.fail("bad_answer")
            return
        self.status = status
        self.head_done = True
        self.keep_alive = self.parser.should_keep_alive()
        if self.method == "HEAD":
            self.parser = None  # it would wait for the body that never comes
            self.complete = self.news = True
        elif self.length < 0:
            self.news = True  # a stream: its head is news by itself

    def _interim(self, status: int) -> None:
        self.interim_count += 1
        if self.interim_count > INTERIMS_MAX:
            self.fail("bad_answer")
            return
        self.interims.append((status, self.reason, self.lines))
        self.reason, self.lines = b"", []
        self.length, self.is_chunked, self.has_date = -1, False, False
        self.in_interim = self.news = True

    def _drop_named(self) -> None:
        """Remove the headers that the backend's Connection header names."""
        named = {token.strip() for token in self.dropped.split(b",")}
        self.lines = [x for x in self.lines if x[: x.index(b":")].lower() not in named]
        self.dropped = b""

    def on_body(self, body: bytes) -> None:
        if self.complete:
            self.extra = True
            return
        self.chunks.append(body)
        self.received += len(body)
        self.news = True

    def on_message_complete(self) -> None:
        if self.in_interim:
            self.in_interim = False
        elif not self.complete and not self.error:
            self.complete = self.news = True
