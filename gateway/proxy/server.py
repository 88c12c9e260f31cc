"""The proxy's listener: aiohttp's low-level server with our connections.

Question: who is connected, and how long may they take? Accepts, limits and
drains connections; one sweep per tick ends those whose deadline has passed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp.http_parser
from aiohttp import web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader

from gateway.core.refusals import Refusal
from gateway.proxy.answer import refusal_answer
from gateway.proxy.connection import ClientConnection
from gateway.proxy.handler import Proxy
from gateway.proxy.ticker import Ticker, ticks

Handle = Callable[[ClientConnection, RawRequestMessage, StreamReader], Coroutine[Any, Any, bool]]

ACCEPTED_S = 0.05  # several turns of the loop


class ParserMissing(RuntimeError):
    """aiohttp runs without its C parser, which reads requests differently."""


def require_c_parser() -> None:
    """Refuse to start on the pure-Python parser. Raises ParserMissing."""
    module = aiohttp.http_parser.HttpRequestParser.__module__
    if module != "aiohttp._http_parser":
        raise ParserMissing(
            "aiohttp's C parser is missing: expected aiohttp._http_parser, "
            f"found {module}. Install a binary wheel of aiohttp, and unset AIOHTTP_NO_EXTENSIONS."
        )


class ProxyServer:
    """Connections of the proxy's listener."""

    READ_BUFFER = 262_144  # bytes of a body kept before the client is held back

    def __init__(self, proxy: Proxy, ticker: Ticker) -> None:
        require_c_parser()
        self.proxy = proxy
        self.outbox = proxy.outbox
        self.ticker = ticker
        self.connections: set[ClientConnection] = set()
        # Their clients have gone, and what they asked for is still to be settled.
        self.departed: set[ClientConnection] = set()
        self.is_draining = False
        self._is_over = False
        self._by_peer: dict[str, int] = {}
        self.manager = web.Server(_never, handler_cancellation=False)
        self.handle: Handle = proxy.handle
        self.now_us = proxy.now_us
        self.refresh()
        ticker.add(self.sweep)

    def refresh(self) -> None:
        """Take the limits of the proxy's current book."""
        self.limits = self.proxy.book.server
        self.head_ticks = ticks(self.limits.head_timeout_s)
        self.body_ticks = ticks(self.limits.body_timeout_s)
        self.write_ticks = ticks(self.limits.write_timeout_s)
        self.idle_ticks = ticks(self.limits.keepalive_timeout_s)
        self.head_timeout = self._canned(Refusal("request_timeout"))
        self.too_many = self._canned(Refusal("too_many_connections", retry_after_s=1))

    def __call__(self) -> ClientConnection:
        return ClientConnection(self, asyncio.get_running_loop())

    def opened(self, connection: ClientConnection) -> bool:
        """Count a connection in; whether it is one too many."""
        self.connections.add(connection)
        count = self._by_peer[connection.peer] = self._by_peer.get(connection.peer, 0) + 1
        per_address = self.limits.max_connections_per_address
        return (
            len(self.connections) > self.limits.max_connections
            or (per_address is not None and count > per_address)
            or self._is_over
        )

    def closed(self, connection: ClientConnection) -> None:
        if connection not in self.connections:
            return
        self.connections.discard(connection)
        if connection.has_hold:
            self.departed.add(connection)
        left = self._by_peer[connection.peer] - 1
        if left:
            self._by_peer[connection.peer] = left
        else:
            del self._by_peer[connection.peer]

    def sweep(self, now: int) -> None:
        """End connections whose deadline has passed."""
        late = [c for c in self.connections if c.deadline < now]
        for connection in late:
            connection.expire()
        if self.departed:
            self.departed = {c for c in self.departed if c.has_hold}

    def unparsable(self, connection: ClientConnection, too_long: bool) -> bytes:
        """The answer to bytes that are no request."""
        self.proxy.tally.unparsable()
        refusal = Refusal("bad_request", detail="The request could not be parsed.")
        if too_long:
            refusal = Refusal("head_too_large")
        return self._canned(refusal)

    async def drain(self, timeout_s: float, hurry: asyncio.Event | None = None) -> int:
        """Let requests in flight finish; how many connections had to be cut.

        `hurry`: until it is set idle connections stay open, for each client hears with its next
        answer that it is the last one.
        """
        self.is_draining = True
        loop = asyncio.get_running_loop()
        end_s = loop.time() + timeout_s
        for connection in tuple(self.connections):
            connection.leave()
        # Who was accepted as the listener closed is heard a moment later, and still served.
        await asyncio.sleep(ACCEPTED_S)
        if hurry is not None:
            await self._left_alone(hurry, end_s)
        while (self.connections or self._unsettled()) and loop.time() < end_s:
            for connection in tuple(self.connections):
                connection.close()
            await asyncio.sleep(0.02)
        self._is_over = True
        left = tuple(self.connections)
        for connection in left:
            if connection.transport is not None:
                connection.transport.abort()
        while self.connections and loop.time() < end_s + 1.0:
            await asyncio.sleep(0.01)
        for connection in self._unsettled():
            # An answer that is read on for its price alone ends here, at what was reserved.
            if connection.upstream is not None:
                connection.upstream.fail("client_gone")
        return len(left)

    async def _left_alone(self, hurry: asyncio.Event, end_s: float) -> None:
        """Until each client has heard that its connection ends, or it is time."""
        loop = asyncio.get_running_loop()
        while not hurry.is_set() and loop.time() < end_s:
            if not any(connection.is_kept for connection in self.connections):
                return
            await asyncio.sleep(0.02)

    def _unsettled(self) -> list[ClientConnection]:
        """Connections that have gone, whose requests are still to be settled."""
        return [connection for connection in self.departed if connection.has_hold]

    def _canned(self, refusal: Refusal) -> bytes:
        now_us = self.proxy.now_us()
        request_id = self.proxy.ids.next(now_us)
        return refusal_answer(refusal, book=self.proxy.book, request_id=request_id)


async def _never(request: web.BaseRequest) -> Any:
    """aiohttp's own request loop is not used (ClientConnection.start)."""
    raise AssertionError("requests are served by ClientConnection.start")
