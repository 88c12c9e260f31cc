"""A steady load on several gateways, from clients that remember every answer.

Each request has an id of its own, sent as X-Request-Id, which the gateway tells back and
records. What a client did not hear to its end is no answer.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.chaos.loop import LoopThread
from tests.support.configs import Caller
from tests.support.gateway import Gateway
from tests.support.until import until

GIVE_UP_S = 30.0  # a client that waits so long calls it a hang
LIFE_S = 600.0  # the load ends by itself
RECONNECT_S = 0.05
BODY = b"well"
STREAK = 3  # answers in a row that say that a stream is well
SLOW_S = 1.0  # an answer that took longer is not usual


@dataclass(frozen=True, slots=True)
class Stream:
    """Requests of one account at one gateway."""

    gateway: int
    who: Caller
    expected: frozenset[int]


@dataclass(slots=True)
class Call:
    """One request that was sent. status 0: its answer's end was not heard, `error` says why."""

    id: str
    stream: Stream
    began_s: float
    took_s: float = 0.0
    status: int = 0
    code: str = ""
    error: str = ""
    detail: str = ""

    @property
    def ended_s(self) -> float:
        return self.began_s + self.took_s

    @property
    def is_well(self) -> bool:
        return self.status in self.stream.expected

    def __repr__(self) -> str:
        who = f"{self.stream.who.account}@{self.stream.gateway}"
        what = f"{self.code}{self.error} {self.detail}".strip()
        return f"<{self.id} {who} {self.status} {what} {self.took_s:.3f} s>"


@dataclass(slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    calls: int = 0
    closes: bool = field(default=False)


class Load:
    """So many connections for each stream, each with a request every `pace_s`."""

    def __init__(
        self,
        thread: LoopThread,
        gateways: Sequence[Gateway],
        streams: Sequence[Stream],
        *,
        name: str,
        connections: int,
        pace_s: float,
        calls: int = 0,
    ) -> None:
        """`calls`: so many on one connection; 0: no end."""
        self._gateways = gateways
        self.streams = streams
        self._name = name
        self._pace_s = pace_s
        self._calls = calls
        self._numbers = itertools.count()
        self._is_ending = False
        self.calls: list[Call] = []
        self._of: dict[Stream, list[Call]] = {stream: [] for stream in streams}
        self._clients: list[Future[None]] = [
            asyncio.run_coroutine_threadsafe(self._client(stream), thread.loop)
            for stream in streams
            for _ in range(connections)
        ]

    def stop(self) -> None:
        """When every request that is on its way has ended."""
        self._is_ending = True
        for client in self._clients:
            client.result(GIVE_UP_S + 10)

    def wait_well(self, since_s: float, deadline_s: float = 60.0) -> None:
        """Until every stream is answered as it should be, several times in a row."""
        until(
            lambda: [stream for stream in self.streams if not self._has_streak(stream, since_s)],
            lambda unwell: not unwell,
            what=f"good answers to the load {self._name}",
            deadline_s=deadline_s,
        )

    def wait_refused(self, who: Sequence[Caller], since_s: float) -> None:
        """Until each of them is refused at every gateway, several times in a row."""

        def served() -> list[Stream]:
            streams = [stream for stream in self.streams if stream.who in who]
            return [stream for stream in streams if not self._has_streak(stream, since_s, 429)]

        what = f"the end of what {self._name} is given"
        until(served, lambda left: not left, what=what, deadline_s=60)

    def _has_streak(self, stream: Stream, since_s: float, status: int = 0) -> bool:
        """`status`: all of them; 0: any that is expected."""
        last = [call for call in self._of[stream][-STREAK:] if call.began_s >= since_s]
        wanted = {status} if status else stream.expected
        return len(last) == STREAK and all([call.status in wanted for call in last])

    def recovered_s(self, since_s: float) -> float:
        """How long after an instant the last unusual answer was."""
        ends = [call.ended_s for call in self.unusual() if call.ended_s >= since_s]
        return max(ends, default=since_s) - since_s

    def unusual(self) -> Iterable[Call]:
        return [call for call in self.calls if not call.is_well or call.took_s > SLOW_S]

    # -- a client -------------------------------------------------------------

    async def _client(self, stream: Stream) -> None:
        ends_s = time.monotonic() + LIFE_S
        connection: _Connection | None = None
        await asyncio.sleep(next(self._numbers) % 97 / 97 * self._pace_s)  # not all at once
        while not self._is_ending and time.monotonic() < ends_s:
            began_s = time.monotonic()
            if connection is None:
                connection = await self._connect(stream)
            if connection is not None:
                call = await self._call(connection, stream)
                if not call.status or connection.closes:
                    connection.writer.transport.abort()
                    connection = None
            await asyncio.sleep(max(began_s + self._pace_s - time.monotonic(), 0))
        if connection is not None:
            connection.writer.close()

    async def _connect(self, stream: Stream) -> _Connection | None:
        """None while nobody listens."""
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(GIVE_UP_S):
                port = self._gateways[stream.gateway].port
                return _Connection(*await asyncio.open_connection("127.0.0.1", port))
        await asyncio.sleep(RECONNECT_S)
        return None

    async def _call(self, connection: _Connection, stream: Stream) -> Call:
        id_ = f"{self._name}-{next(self._numbers)}"
        call = Call(id_, stream, time.monotonic())
        self.calls.append(call)
        try:
            async with asyncio.timeout(GIVE_UP_S):
                await self._exchange(connection, call)
        except (OSError, EOFError, TimeoutError) as error:
            call.status, call.error, call.detail = 0, type(error).__name__, str(error)
        call.took_s = time.monotonic() - call.began_s
        self._of[stream].append(call)
        return call

    async def _exchange(self, connection: _Connection, call: Call) -> None:
        connection.writer.write(
            f"GET /n/{call.id} HTTP/1.1\r\nHost: gateway.test\r\n{call.stream.who.bearer}\r\n"
            f"X-Request-Id: {call.id}\r\n\r\n".encode()
        )
        head = await connection.reader.readuntil(b"\r\n\r\n")
        status, headers = _read_head(head)
        body = await connection.reader.readexactly(int(headers["content-length"]))
        if headers.get("x-request-id") != call.id:
            raise AssertionError(f"{call} was answered as {headers}")
        if status == 200 and body != BODY:
            raise AssertionError(f"{call} was answered with {body!r}")
        call.status = status
        call.code = _code(body) if status >= 400 else ""
        connection.calls += 1
        is_last = connection.calls == self._calls
        connection.closes = is_last or headers.get("connection", "").lower() == "close"


def _read_head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    pairs = [line.partition(":") for line in lines]
    return int(first.split(" ")[1]), {name.lower(): value.strip() for name, _, value in pairs}


def _code(body: bytes) -> str:
    problem: dict[str, Any] = orjson.loads(body)
    return str(problem.get("code", ""))


class Backend:
    """Answers every GET after a while, so that there are always requests on their way."""

    def __init__(self, thread: LoopThread, wait_s: float = 0.01) -> None:
        self._thread = thread
        self._wait_s = wait_s
        self._server = thread.run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
        with suppress(OSError, EOFError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await asyncio.sleep(self._wait_s)
                writer.write(answer)
        writer.transport.abort()

    def stop(self) -> None:
        self._thread.loop.call_soon_threadsafe(self._server.close)
