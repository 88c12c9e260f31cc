"""A door between a gateway and a server, with switches for what networks do.

Bytes pass in their order. While it is shut they are kept, as a network keeps sending what
was not acknowledged, so they arrive late when it is opened again; or never, where the
connections are cut first.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from tests.chaos.loop import LoopThread

_CHUNK = 65_536
Target = int | Path  # a port of this machine, or a socket


class _Passage:
    """One connection, both ways."""

    def __init__(self, near: asyncio.StreamWriter) -> None:
        self.near = near
        self.far: asyncio.StreamWriter | None = None
        self.loses_reply = False

    def cut(self) -> None:
        for writer in (self.near, self.far):
            if writer is not None:
                writer.transport.abort()


class Door:
    """Listens on `port` and leads to `target`."""

    def __init__(self, thread: LoopThread, target: Target) -> None:
        self._thread = thread
        self._target = target
        self._passages: set[_Passage] = set()
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._delay_s = 0.0
        self._bytes_per_s = 0
        self._swallows = b""  # in a call whose reply is to be lost
        self._until_swallow = 0
        self.swallowed = 0
        self.answered = 0  # pieces that came back
        self._server = thread.run(asyncio.start_server(self._enter, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    # -- switches -------------------------------------------------------------

    def delay(self, seconds: float) -> None:
        """Each piece, each way, takes so much longer; 0: no longer."""
        self._delay_s = seconds

    def throttle(self, bytes_per_s: int) -> None:
        """0: not at all."""
        self._bytes_per_s = bytes_per_s

    def shut(self) -> None:
        """Nothing passes, nothing closes."""
        self._call(self._is_open.clear)

    def open(self, *, keeps: bool = True) -> None:
        """Let pass what waits; `keeps` False: it is lost, and its connections are cut."""

        def now() -> None:
            if not keeps:
                self._cut()
            self._is_open.set()

        self._call(now)

    def cut(self) -> None:
        """Close every connection that there is."""
        self._call(self._cut)

    def swallow(self, call: bytes, nth: int = 1) -> None:
        """Of the nth piece from now that has these bytes, lose the reply and cut."""
        self._swallows, self._until_swallow = call, nth

    def lead_to(self, target: Target) -> None:
        """For connections that are made from now on."""
        self._target = target

    def heal(self) -> None:
        """As it was made."""
        self._swallows = b""
        self.delay(0)
        self.throttle(0)
        self.open()

    def close(self) -> None:
        async def end() -> None:
            self._server.close()
            self._cut()

        self._thread.run(end())

    def _call(self, switch: object) -> None:
        async def do() -> None:
            switch()  # type: ignore[operator]

        self._thread.run(do())

    def _cut(self) -> None:
        for passage in self._passages:
            passage.cut()

    # -- bytes ----------------------------------------------------------------

    async def _enter(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        passage = _Passage(near)
        self._passages.add(passage)
        try:
            await self._is_open.wait()
            back, passage.far = await self._connect()
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._there(reader, passage))
                ways.create_task(self._back(back, passage))
        except* (OSError, RuntimeError):
            pass  # either side has gone: so has the other, below
        finally:
            passage.cut()
            self._passages.discard(passage)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, Path):
            return await asyncio.open_unix_connection(self._target)
        return await asyncio.open_connection("127.0.0.1", self._target)

    async def _there(self, reader: asyncio.StreamReader, passage: _Passage) -> None:
        far = passage.far
        assert far is not None
        while data := await self._piece(reader):
            if self._swallows and self._swallows in data:
                self._until_swallow -= 1
                if not self._until_swallow:
                    passage.loses_reply, self._swallows = True, b""
            far.write(data)
            await far.drain()
        with suppress(OSError, RuntimeError):
            far.write_eof()

    async def _back(self, reader: asyncio.StreamReader, passage: _Passage) -> None:
        while data := await self._piece(reader):
            if passage.loses_reply:
                self.swallowed += 1
                break
            self.answered += 1
            passage.near.write(data)
            await passage.near.drain()
        passage.cut()

    async def _piece(self, reader: asyncio.StreamReader) -> bytes:
        data = await reader.read(_CHUNK)
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        if self._bytes_per_s:
            await asyncio.sleep(len(data) / self._bytes_per_s)
        await self._is_open.wait()
        return data
