"""A client that sends exactly the bytes it is given.

Ordinary clients repair, reorder or refuse hostile requests; this one does not.
Answers are parsed strictly by h11, so an answer that a careful client would
not understand fails the test by itself.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import h11

Headers = list[tuple[bytes, bytes]]
_READ = 65_536
_HEAD_MAX = 1 << 20  # h11's limit for one head; ours must never be the reason


@dataclass(slots=True)
class Answer:
    """One parsed response. `complete` is False when the connection ended inside it."""

    status: int
    reason: bytes = b""
    version: bytes = b""
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    trailers: Headers = field(default_factory=list)
    informational: list[tuple[int, Headers]] = field(default_factory=list)
    complete: bool = False

    def all(self, name: str) -> list[str]:
        """Every value of a header, in order."""
        wanted = name.lower().encode()
        return [v.decode("latin-1") for n, v in self.headers if n.lower() == wanted]

    def get(self, name: str) -> str | None:
        values = self.all(name)
        return values[0] if values else None

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def is_refusal(self) -> bool:
        """Whether the gateway itself answered."""
        return (self.get("content-type") or "").startswith("application/problem+json")

    @property
    def code(self) -> str | None:
        """The refusal's code, None when the backend answered."""
        return self.json()["code"] if self.is_refusal else None


def parse_answers(
    data: bytes, methods: Iterable[str], *, closed: bool
) -> tuple[list[Answer], bytes]:
    """All responses in `data`, one for each method, and the bytes that are left.

    Raises h11.RemoteProtocolError for an answer that is not HTTP.
    """
    answers: list[Answer] = []
    for method in methods:
        if not data:
            break
        answer, data = parse_answer(data, method, closed=closed)
        if answer is not None:
            answers.append(answer)
        if answer is None or not answer.complete:
            break
    return answers, data


def parse_answer(data: bytes, method: str, *, closed: bool) -> tuple[Answer | None, bytes]:
    """The first response in `data` and the rest; None when not even a head is there."""
    wire = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_MAX)
    wire.send(h11.Request(method=method, target="/", headers=[("Host", "x"), *_asks(method)]))
    wire.send(h11.EndOfMessage())
    wire.receive_data(data)
    if closed:
        wire.receive_data(b"")
    answer: Answer | None = None
    early: list[tuple[int, Headers]] = []
    body: list[bytes] = []
    while True:
        try:
            event = wire.next_event()
        except h11.RemoteProtocolError:
            if answer is None or not closed:
                raise
            break  # the connection ended inside the body
        if isinstance(event, h11.InformationalResponse):
            early.append((event.status_code, list(event.headers.raw_items())))
            if event.status_code == 101:
                return Answer(101, event.reason, event.http_version, early.pop()[1], b"".join(body),
                              [], early, True), wire.trailing_data[0]  # fmt: skip
        elif isinstance(event, h11.Response):
            answer = Answer(event.status_code, event.reason, event.http_version)
            answer.headers = list(event.headers.raw_items())
            answer.informational = early
        elif isinstance(event, h11.Data):
            body.append(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            assert answer is not None
            answer.complete = True
            answer.trailers = list(event.headers.raw_items())
            break
        else:
            break
    if answer is not None:
        answer.body = b"".join(body)
    return answer, wire.trailing_data[0] if answer and answer.complete else b""


def _asks(method: str) -> list[tuple[str, str]]:
    """h11 understands a 101 only as the answer to an upgrade."""
    return [("Upgrade", "websocket"), ("Connection", "upgrade")] if method == "GET" else []


class RawConnection:
    """One connection. `received` is everything that came, never shortened."""

    def __init__(self, port: int, source: str | None = None) -> None:
        self.received = b""
        self.eof = False
        self.reset = False
        self._parsed = 0
        self._socket = socket.socket()
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(15)
        try:
            if source is not None:
                self._socket.bind((source, 0))
            self._socket.connect(("127.0.0.1", port))
        except OSError:
            self._socket.close()
            raise

    def send(self, data: bytes, *, segment: int | None = None) -> bool:
        """Send, in pieces of `segment` bytes where given. False when the peer has gone."""
        step = segment or max(len(data), 1)
        try:
            for at in range(0, len(data), step):
                self._socket.sendall(data[at : at + step])
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def read_some(self, timeout_s: float) -> bool:
        """Wait for more bytes or the end. False when nothing happened in time."""
        if self.eof:
            return False
        if not select.select([self._socket], [], [], timeout_s)[0]:
            return False
        try:
            data = self._socket.recv(_READ)
        except ConnectionResetError:
            data, self.reset = b"", True
        self.received += data
        self.eof = not data
        return True

    def read_all(self, timeout_s: float = 10.0) -> bytes:
        """Everything until the peer closes. Raises TimeoutError when it does not."""
        give_up = time.monotonic() + timeout_s
        while not self.eof:
            if not self.read_some(max(give_up - time.monotonic(), 0)):
                raise TimeoutError(f"still open after {timeout_s} s: {self.received[-200:]!r}")
        return self.received

    def answer(self, method: str = "GET", timeout_s: float = 15.0) -> Answer:
        """The next response, complete or cut off by the end of the connection.

        Raises TimeoutError, and EOFError when the peer closed without a response.
        """
        found = self.try_answer(method, timeout_s)
        if found is None:
            if self.eof:
                raise EOFError(f"closed without an answer: {self.received[self._parsed :]!r}")
            raise TimeoutError(f"no answer within {timeout_s} s: {self.received[-200:]!r}")
        return found

    def try_answer(self, method: str, timeout_s: float) -> Answer | None:
        """Like `answer`, but None when there was no complete response in time."""
        give_up = time.monotonic() + timeout_s
        while True:
            rest = self.received[self._parsed :]
            if rest:
                answer, left = parse_answer(rest, method, closed=self.eof)
                if answer is not None and (answer.complete or self.eof):
                    self._parsed = len(self.received) - len(left)
                    return answer
            if self.eof or not self.read_some(max(give_up - time.monotonic(), 0)):
                return None

    def receive(self, enough: Callable[[bytes], bool], timeout_s: float = 15.0) -> None:
        """Read until what came in all is enough. Raises TimeoutError or EOFError."""
        give_up = time.monotonic() + timeout_s
        while not enough(self.received):
            if self.eof:
                raise EOFError(f"closed too early: {self.received[-200:]!r}")
            if not self.read_some(max(give_up - time.monotonic(), 0)):
                raise TimeoutError(f"not enough within {timeout_s} s: {self.received[-200:]!r}")

    @property
    def unparsed(self) -> bytes:
        """What came after the last answer that was parsed."""
        return self.received[self._parsed :]

    def is_closed(self, timeout_s: float = 5.0) -> bool:
        """Whether the peer closes within the time; bytes that come before are kept."""
        give_up = time.monotonic() + timeout_s
        while not self.eof and self.read_some(max(give_up - time.monotonic(), 0)):
            pass
        return self.eof

    def shut_write(self) -> None:
        """Tell the peer that nothing more will be sent."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.eof = True

    def abort(self) -> None:
        """Close with a RST, as a crashed client does."""
        linger = struct.pack("ii", 1, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._socket.close()

    def close(self) -> None:
        self._socket.close()

    @property
    def socket(self) -> socket.socket:
        return self._socket


@contextmanager
def connected(port: int, source: str | None = None) -> Iterator[RawConnection]:
    connection = RawConnection(port, source)
    try:
        yield connection
    finally:
        connection.close()


def head(method: str, target: str, *lines: str, host: str = "gateway.test") -> bytes:
    """A request's head as bytes, with a Host and the lines as they are given."""
    text = "\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {host}", *lines])
    return (text + "\r\n\r\n").encode("latin-1")


def exchange(port: int, data: bytes, method: str = "GET", *, timeout_s: float = 15.0) -> Answer:
    """Send bytes on a fresh connection and take the first answer."""
    with connected(port) as connection:
        connection.send(data)
        return connection.answer(method, timeout_s)
