"""The open connections to one backend: who gets which, decided synchronously.

Invariant: a connection is handed out only when its last answer was complete,
it may be kept alive, and nothing came after the answer. The newest idle one
goes first, so that the others can age out. Must not know requests.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque

from gateway.core.book import Upstream
from gateway.proxy.answer_memo import AnswerMemo
from gateway.proxy.ticker import NEVER, Ticker, ticks
from gateway.proxy.upstream import DROP, HOP_BY_HOP, UpstreamConnection

IDLE_TIMEOUT_S = 55.0  # below the 60 s and 75 s after which common servers close
_IDLE_TICKS = ticks(IDLE_TIMEOUT_S)
WRITE_BUFFER_HIGH = 256 * 1024  # bytes waiting for a slow backend


class Unreachable(Exception):
    """No connection to the backend; `code` is the refusal it becomes, the text says why."""

    def __init__(self, code: str, upstream: str, why: object) -> None:
        super().__init__(f"{upstream}: {why}")
        self.code = code


class Pool:
    """Connections to one upstream."""

    def __init__(
        self,
        upstream: Upstream,
        loop: asyncio.AbstractEventLoop,
        ticker: Ticker,
        own_headers: frozenset[bytes] = frozenset(),
    ) -> None:
        self.upstream = upstream
        self.loop = loop
        self.ticker = ticker
        edits = upstream.response_headers
        ours = own_headers | edits.remove | {name.lower() for name, _ in edits.set}
        self.meanings = {**dict.fromkeys(ours, DROP), **HOP_BY_HOP}
        self.idle: deque[UpstreamConnection] = deque()
        self.open: set[UpstreamConnection] = set()
        self.answer_memo: AnswerMemo | None = None  # see UpstreamConnection
        self._connecting = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._tls = _tls_context(upstream)
        self._read_ticks = ticks(upstream.read_timeout_s)
        self._is_closed = False
        ticker.add(self._sweep)

    def __repr__(self) -> str:
        return f"<Pool {self.upstream.name} open {len(self.open)} idle {len(self.idle)}>"

    @property
    def _where(self) -> str:
        return f"{self.upstream.host}:{self.upstream.port}"

    def read_deadline(self) -> int:
        """When silence from now on is too long."""
        return self.ticker.now + self._read_ticks

    def take_idle(self) -> UpstreamConnection | None:
        """An idle connection that still looks open, or None."""
        while self.idle:
            connection = self.idle.pop()
            transport = connection.transport
            if transport is not None and not transport.is_closing():
                connection.is_reused = True
                return connection
        return None

    async def connect(self) -> UpstreamConnection:
        """A new connection, or one that was given back meanwhile, within connect_timeout.

        Raises Unreachable (`upstream_unreachable`, or `upstream_timeout` when
        all allowed connections stay busy).
        """
        upstream = self.upstream
        try:
            async with asyncio.timeout(upstream.connect_timeout_s):
                while len(self.open) + self._connecting >= upstream.max_connections:
                    connection = self.take_idle() or await self._wait_for_place()
                    if connection is not None:
                        return connection
                connection = await self._open()
        except TimeoutError as exc:
            busy = len(self.open) >= upstream.max_connections
            code = "upstream_timeout" if busy else "upstream_unreachable"
            why = "all connections are busy" if busy else f"no answer from {self._where}"
            raise Unreachable(code, upstream.name, why) from exc
        except OSError as exc:
            why = exc.strerror or str(exc)
            raise Unreachable(
                "upstream_unreachable", upstream.name, f"{self._where}: {why}"
            ) from exc
        if connection.transport is None:
            raise Unreachable("upstream_unreachable", upstream.name, f"{self._where}: closed")
        connection.transport.set_write_buffer_limits(high=WRITE_BUFFER_HIGH)
        self.open.add(connection)
        return connection

    def release(self, connection: UpstreamConnection) -> None:
        """Give a connection back after an exchange; it is closed if it is no longer clean."""
        transport = connection.transport
        if transport is None:
            return
        if (
            connection.complete
            and connection.keep_alive
            and not connection.extra
            and not connection.error
            and len(self.idle) < self.upstream.pool_size
            and not self._is_closed
        ):
            connection.total_deadline = NEVER
            connection.deadline = self.ticker.now + _IDLE_TICKS
            connection.keep_alive = False  # given back twice, it would be handed out twice
            self.idle.append(connection)
            if self._waiting:
                self._wake_one()
        else:
            transport.abort()

    def lost(self, connection: UpstreamConnection) -> None:
        """A connection has closed."""
        self.open.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)
        self._wake_one()

    def close(self) -> None:
        """Close what is idle; what is in use closes when it is given back."""
        self._is_closed = True
        for connection in tuple(self.idle):
            if connection.transport is not None:
                connection.transport.close()
        if not self.open:
            self.ticker.remove(self._sweep)

    async def _open(self) -> UpstreamConnection:
        self._connecting += 1
        try:
            _, connection = await self.loop.create_connection(
                lambda: UpstreamConnection(self),
                self.upstream.host,
                self.upstream.port,
                ssl=self._tls,
                server_hostname=self.upstream.host if self._tls else None,
            )
        finally:
            self._connecting -= 1
        return connection

    async def _wait_for_place(self) -> UpstreamConnection | None:
        """Until a connection is given back or closes; the one given back, if any."""
        waiter: asyncio.Future[None] = self.loop.create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
        return self.take_idle()

    def _wake_one(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _sweep(self, now: int) -> None:
        if self._is_closed and not self.open:
            self.ticker.remove(self._sweep)
            return
        for connection in tuple(self.open):
            if connection.deadline < now or connection.total_deadline < now:
                connection.fail("timeout")


def _tls_context(upstream: Upstream) -> ssl.SSLContext | None:
    if upstream.scheme != "https":
        return None
    context = ssl.create_default_context(cafile=upstream.ca_file)
    if not upstream.verify_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
