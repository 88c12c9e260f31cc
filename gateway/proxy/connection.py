"""The client's connection: aiohttp's server protocol with our own request loop.

aiohttp parses, queues pipelined requests and applies back-pressure to bodies.
Ours are: requests run as bytes come in, without a task, deadlines for
every phase (swept by the ticker), word to the backend's side when the client
goes, raw bytes for WebSocket tunnels, and our own answer to what cannot be
parsed. Written against aiohttp 3.14; tests/proxy/test_connection.py holds what
it relies on.
"""

from __future__ import annotations

import asyncio
import ipaddress
import select
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, cast

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler, RequestPayloadError, _ErrInfo

from gateway.core.book import Network
from gateway.proxy.frames import FrameCounter
from gateway.proxy.ticker import NEVER
from gateway.proxy.upstream import UpstreamConnection

if TYPE_CHECKING:
    from gateway.proxy.exchange import Exchange
    from gateway.proxy.memo import HeadMemo
    from gateway.proxy.server import ProxyServer

# What a connection is waiting for; each has its own deadline.
IDLE, HEAD, BUSY, BODY, WRITE = range(5)

# A chunked body may spend this many bytes on framing for each byte of content,
# once it is larger than a few small chunks would be.
CHUNK_OVERHEAD_MAX = 16
CHUNK_OVERHEAD_FREE = 65_536
# What is read and thrown away after an answer to an unread body, so that the
# client can read the answer before the connection is reset.
LINGER_BYTES_MAX = 64 * 1_048_576  # as far as it comes within LINGER_S
LINGER_S = 2.0

PARSED_TOO_LONG = ("LineTooLong", "TooManyHeaders")


class ClientConnection(RequestHandler):
    """One client connection, which serves one request at a time, in order."""

    __slots__ = (
        "server", "peer", "is_tls", "phase", "deadline", "upstream",
        "tunnel", "body_raw", "tunnel_in", "frames", "memo", "exchange", "_running", "_payload",
        "_is_lingering",
    )  # fmt: skip

    def __init__(self, server: ProxyServer, loop: asyncio.AbstractEventLoop) -> None:
        limits = server.limits
        super().__init__(
            server.manager,
            loop=loop,
            keepalive_timeout=0,  # the ticker watches, not a timer per connection
            access_log=cast(Any, None),
            max_line_size=limits.max_line_bytes,
            max_headers=limits.max_headers,
            max_field_size=limits.max_header_bytes,
            read_bufsize=server.READ_BUFFER,
            auto_decompress=False,
        )
        self.server = server
        self.peer = ""
        self.is_tls = False
        self.phase = IDLE
        self.deadline = NEVER
        self.upstream: UpstreamConnection | None = None
        self.tunnel: asyncio.Transport | None = None
        self.tunnel_in = 0
        self.frames: FrameCounter | None = None  # of a measured tunnel
        self.body_raw = 0
        self.memo: HeadMemo | None = None
        self.exchange: Exchange | None = None  # of the last request
        self._payload: StreamReader = EMPTY_PAYLOAD
        self._is_lingering = False
        self._running: Coroutine[Any, Any, bool] | None = None

    def __repr__(self) -> str:
        return f"<ClientConnection {self.peer} phase {self.phase}>"

    @property
    def has_hold(self) -> bool:
        """Whether its request has reserved something that is still to be settled."""
        x = self.exchange
        return x is not None and x.hold is not None and x.hold.is_open

    # -- asyncio.Protocol -------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        name = transport.get_extra_info("peername")
        self.peer = name[0] if isinstance(name, tuple) else "unix"
        self.is_tls = transport.get_extra_info("sslcontext") is not None
        refused = self.server.opened(self)
        super().connection_made(transport)
        self.deadline = self.server.ticker.now + self.server.head_ticks
        if refused:
            self.write(self.server.too_many)
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.server.closed(self)
        super().connection_lost(exc)
        if self.upstream is not None:
            self.upstream.client_gone()
        if not self._payload.is_eof():
            self._payload.set_exception(ConnectionResetError("the client has gone"))

    def data_received(self, data: bytes) -> None:
        if self.tunnel is not None:
            self.tunnel_in += len(data)
            if self.frames is not None:
                self.frames.feed(data)
            self.tunnel.write(data)
            return
        if self._force_close:
            return
        self._parse(data)
        if self._running is not None:
            self.body_raw += len(data)
            if self.phase == BODY:
                self.deadline = self.server.ticker.now + self.server.body_ticks
            if self._messages and isinstance(self._messages[-1][0], _ErrInfo):
                self._break_body()
        elif self._messages:
            self.body_raw = len(data)
            self._serve()
        elif self.phase == IDLE and data:
            self.phase = HEAD
            self.deadline = self.server.ticker.now + self.server.head_ticks

    def _parse(self, data: bytes) -> None:
        """aiohttp's parser, and its queue of requests that wait their turn."""
        parser = self._parser
        assert parser is not None
        if self._upgraded:
            # Behind an upgrade request: a tunnel's first bytes, if there will be one.
            self._message_tail += data
            if len(self._message_tail) >= self._read_bufsize and not self._buffer_paused:
                self._pause_reading_for_buffer()
            return
        try:
            messages, upgraded, tail = parser.feed_data(data)
        except HttpProcessingError as exc:
            messages = [(_ErrInfo(status=400, exc=exc, message=exc.message), EMPTY_PAYLOAD)]
            upgraded, tail = False, b""
        if messages:
            self._messages.extend(messages)
            if len(self._messages) >= self._max_msg_queue_size and not self._buffer_paused:
                self._pause_reading_for_buffer()
        if upgraded:
            self._upgraded = True
            self._message_tail = tail

    def _break_body(self) -> None:
        """The parser has given up: a body that is still coming is not going to be whole."""
        if not self._payload.is_eof():
            self._payload.set_exception(RequestPayloadError("the body cannot be parsed"))

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.tunnel is not None and self.upstream is not None:
            _pause(self.upstream.transport)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.tunnel is not None and self.upstream is not None:
            _resume(self.upstream.transport)

    # -- the requests of this connection ------------------------------------

    async def start(self) -> None:
        """aiohttp's request loop, not used: `_serve` runs when bytes come in."""

    def _serve(self) -> None:
        """Begin the queued requests one after the other, until one has to wait."""
        while self._messages and self._running is None and not self._force_close:
            message, payload = self._messages.popleft()
            if isinstance(message, _ErrInfo):
                self._answer_unparsable(message)
                self._end()
                return
            self.phase = BUSY
            self.deadline = NEVER
            self._payload = payload
            self._is_lingering = False
            self._running = self.server.handle(self, message, payload)
            if self._parser is not None:
                self._parser.message_consumed()
            if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
                self._resume_reading_if_drained()
            self._step()

    def _step(self) -> None:
        """Run the request's coroutine up to its next wait, without a task.

        A task and two futures per request are saved (docs/decisions/0002). What
        the path awaits is either news of the backend, which resumes us directly,
        or a future. Whatever needs a current task
        (asyncio.timeout) is put into one by its caller.
        """
        coroutine = self._running
        assert coroutine is not None
        try:
            awaited = coroutine.send(None)
        except StopIteration as stop:
            self._running = None
            self._finish(stop.value)
        except asyncio.CancelledError:
            self._running = None  # the loop is ending
            self.force_close()
        except Exception as exc:
            self._running = None
            self.server.proxy.tally.broken_connection(exc)
            self.force_close()
        else:
            if awaited.__class__ is not UpstreamConnection:
                awaited._asyncio_future_blocking = False
                awaited.add_done_callback(self._resume_after)

    def resume(self) -> None:
        """The backend has news for the request that waits."""
        self._step()
        if self._running is None and self._messages:
            self._serve()

    def _resume_after(self, future: asyncio.Future[Any]) -> None:
        self.resume()

    def _finish(self, keep_alive: bool) -> None:
        if not self._payload.is_eof() and self.transport is not None and not self._is_lingering:
            self._is_lingering = True
            self._running = self._read_rest(self._payload, keep_alive)
            self._step()
        elif keep_alive and not self._force_close and not self._upgraded:
            self.phase = IDLE
            self.deadline = self.server.ticker.now + self.server.idle_ticks
        else:
            self._end()

    def _end(self) -> None:
        """Nothing more is read from this connection; what was written goes out."""
        self._force_close = True
        self._messages.clear()
        self.server.outbox.flush()
        if self.transport is not None:
            self.transport.close()

    @property
    def is_kept(self) -> bool:
        """Whether its client was told, or is being told, that it may ask again."""
        return self.phase == IDLE or (self.exchange is not None and self.exchange.keep_alive)

    def leave(self) -> None:
        """The server drains: the next answer that begins says that it is the last."""
        self.memo = None
        if self.exchange is not None and not self.exchange.head_sent:
            self.exchange.keep_alive = False

    def close(self) -> None:
        """End an idle connection, unless something of it waits to be read."""
        if self.phase == IDLE and not self._is_readable():
            self._end()

    def _is_readable(self) -> bool:
        """Whether a request, or its client's end, has reached this machine."""
        if self.transport is None:
            return False
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    async def _read_rest(self, payload: StreamReader, keep_alive: bool) -> bool:
        """Read the rest of a body nobody wants, in a task for its timeout."""
        self.server.outbox.flush()
        return await self._loop.create_task(self._linger(payload)) and keep_alive

    async def _linger(self, payload: StreamReader) -> bool:
        """Read and drop for a while, so that the answer is not lost to a reset."""
        read = 0
        try:
            async with asyncio.timeout(LINGER_S):
                while read < LINGER_BYTES_MAX and not payload.is_eof():
                    read += len(await payload.readany())
        except Exception:  # timeout, broken body, client gone: all end it
            return False
        return payload.is_eof()

    def _answer_unparsable(self, error: _ErrInfo) -> None:
        """Say what could not be parsed and close; the log has no byte of it."""
        too_long = type(error.exc).__name__ in PARSED_TOO_LONG or "Too many" in error.message
        self.write(self.server.unparsable(self, too_long))

    # -- writing ------------------------------------------------------------

    def write(self, data: bytes) -> bool:
        """Write to the client now; False when it is gone."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return False
        self.server.outbox.flush()
        transport.write(data)
        return True

    def write_soon(self, data: bytes) -> bool:
        """Write with the rest of this turn, after the journal; False when the client is gone."""
        transport = self.transport
        if transport is None:
            return False
        self.server.outbox.put(transport, data)
        return True

    async def drain(self) -> bool:
        """Wait until the client reads on; False when it is gone or too slow."""
        if self.transport is None:
            return False
        if self._paused:
            phase, deadline = self.phase, self.deadline
            self.phase = WRITE
            self.deadline = self.server.ticker.now + self.server.write_ticks
            try:
                await self._drain_helper()
            except ConnectionError:
                return False
            self.phase, self.deadline = phase, deadline
        return self.transport is not None

    def expect_body(self) -> None:
        """The client's body is being read; its silence is limited from now on."""
        self.phase = BODY
        self.deadline = self.server.ticker.now + self.server.body_ticks

    def expect_nothing(self) -> None:
        """The backend is being waited for, which has deadlines of its own."""
        self.phase = BUSY
        self.deadline = NEVER

    def is_wasteful(self, content: int) -> bool:
        """Whether a chunked body spends absurdly much on its framing."""
        return self.body_raw > CHUNK_OVERHEAD_FREE and self.body_raw > content * CHUNK_OVERHEAD_MAX

    def expire(self) -> None:
        """The deadline of the current phase has passed."""
        self.deadline = NEVER
        if self.phase == HEAD:
            self.write(self.server.head_timeout)
            self.force_close()
        elif self.phase == IDLE:
            self.force_close()
        elif self.phase == BODY and not self._payload.is_eof():
            self._payload.set_exception(TimeoutError("the body paused for too long"))
        elif self.transport is not None:
            self.transport.abort()

    def take_tail(self) -> bytes:
        """What the client sent behind an upgrade request, once."""
        tail, self._message_tail = self._message_tail, b""
        return tail

    def open_tunnel(self, upstream: UpstreamConnection) -> None:
        """From now on bytes go to and fro untouched."""
        self.tunnel = upstream.transport
        upstream.on_tunnel = self.transport
        upstream.deadline = upstream.total_deadline = NEVER
        if self._buffer_paused:
            self._buffer_paused = False
            _resume(self.transport)

    def is_from(self, source: str, networks: tuple[Network, ...]) -> bool:
        """Whether an address (text) lies in one of the networks."""
        return address_in(source, networks)


def address_in(source: str, networks: tuple[Network, ...]) -> bool:
    """Whether an IP address as text lies in one of the networks."""
    try:
        address = ipaddress.ip_address(source)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)


def _pause(transport: asyncio.Transport | None) -> None:
    if transport is not None and not transport.is_closing():
        transport.pause_reading()


def _resume(transport: asyncio.Transport | None) -> None:
    if transport is not None and not transport.is_closing():
        transport.resume_reading()
