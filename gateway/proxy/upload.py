"""The request body on its way to the backend.

A body that has already arrived whole goes out with the head and needs nothing
more; any other is pumped by a task of its own, so that the backend may answer
before it has seen everything. Sizes are counted as they pass: a limit holds
whatever Content-Length said.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.proxy.exchange import NO_LENGTH, Exchange

if TYPE_CHECKING:
    from gateway.proxy.upstream import UpstreamConnection

# A client that waits for 100 Continue longer than this sends its body anyway
# (RFC 9110 10.1.1 lets it), and a backend may never say 100.
CONTINUE_WAIT_S = 1.0


class NoUpload:
    """The upload of a request without a body: done before it begins."""

    __slots__ = ()
    is_done = True
    task: asyncio.Task[None] | None = None

    def take_whole(self) -> bytes:
        return b""

    def start(self, upstream: UpstreamConnection) -> None: ...

    def go_on(self) -> None: ...

    async def stop(self) -> None: ...


NO_UPLOAD = NoUpload()


class Upload:
    """One request body. `is_done` once every byte of it was sent."""

    __slots__ = ("x", "is_done", "task", "_continue", "_max_bytes")

    def __init__(self, x: Exchange) -> None:
        self.x = x
        self.is_done = False
        self.task: asyncio.Task[None] | None = None
        self._continue: asyncio.Event | None = None
        self._max_bytes = x.route.max_body_bytes

    def take_whole(self) -> bytes:
        """The body's bytes as framed for the backend, if all of it is here."""
        x = self.x
        if x.body is not None:
            data = x.body
        elif self.is_done or x.expects_continue or not x.payload.is_eof():
            return b""
        else:
            if x.payload.exception() is not None:
                return b""
            data = x.payload.read_nowait()
        if self._is_too_large(len(data)):
            x.body_error = "body_too_large"
            return b""
        if x.body_length == NO_LENGTH and x.connection.is_wasteful(len(data)):
            x.body_error = "bad_request"
            return b""
        x.bytes_in = len(data)
        self.is_done = True
        if x.body_length == NO_LENGTH:
            return (b"%x\r\n%b\r\n" % (len(data), data) if data else b"") + b"0\r\n\r\n"
        return data

    def start(self, upstream: UpstreamConnection) -> None:
        """Begin to pump, unless everything is sent."""
        if not self.is_done and self.task is None:
            if self.x.expects_continue:
                self._continue = asyncio.Event()
            self.task = asyncio.create_task(self._pump(upstream))

    def go_on(self) -> None:
        """The backend said 100 Continue."""
        if self._continue is not None:
            self._continue.set()

    async def stop(self) -> None:
        """End the pump; what was not sent by now is not sent."""
        task = self.task
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait((task,))

    async def _pump(self, upstream: UpstreamConnection) -> None:
        x = self.x
        try:
            if self._continue is not None:
                await self._await_continue()
            x.connection.expect_body()
            await self._pass_on(upstream)
        except asyncio.CancelledError:
            raise
        except Exception as exc:
            # Whatever the payload raises means: this body will not be whole.
            timed_out = isinstance(exc, TimeoutError)
            self._fail(upstream, "request_timeout" if timed_out else "bad_request")
        else:
            if x.body_error is None:
                self.is_done = True
                x.connection.expect_nothing()

    async def _pass_on(self, upstream: UpstreamConnection) -> None:
        x = self.x
        payload, pool = x.payload, upstream.pool
        is_chunked = x.body_length == NO_LENGTH
        while True:
            data = await payload.readany()
            if not data:
                if payload.is_eof():
                    break
                continue
            x.bytes_in += len(data)
            if self._is_too_large(x.bytes_in):
                self._fail(upstream, "body_too_large")
                return
            if is_chunked and x.connection.is_wasteful(x.bytes_in):
                self._fail(upstream, "bad_request")
                return
            transport = upstream.transport
            if transport is None:
                return
            upstream.deadline = pool.read_deadline()
            transport.write(b"%x\r\n%b\r\n" % (len(data), data) if is_chunked else data)
            if upstream.write_paused:
                await upstream.drain()
        if is_chunked and upstream.transport is not None:
            upstream.transport.write(b"0\r\n\r\n")

    async def _await_continue(self) -> None:
        assert self._continue is not None
        try:
            async with asyncio.timeout(CONTINUE_WAIT_S):
                await self._continue.wait()
        except TimeoutError:
            self.x.connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.x.expects_continue = False

    def _is_too_large(self, size: int) -> bool:
        return self._max_bytes is not None and size > self._max_bytes

    def _fail(self, upstream: UpstreamConnection, code: str) -> None:
        self.x.body_error = code
        self.x.keep_alive = False
        upstream.fail("body_error")
