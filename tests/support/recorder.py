"""A backend that keeps every byte it receives and parses it strictly.

Whatever the gateway forwards must be one thing to every parser: the recorder
reads with h11, which refuses what is ambiguous, and notes each error. It
answers 200 with a small body, or as the script of the request's path says.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import h11

Headers = list[tuple[bytes, bytes]]
_HEAD_MAX = 1 << 20
_READ = 65_536


@dataclass(slots=True)
class Recorded:
    """One request as it came. `complete` is False when its end never did."""

    method: str
    target: str
    version: bytes
    headers: Headers
    body: bytes = b""
    trailers: Headers = field(default_factory=list)
    complete: bool = False
    number: int = 0  # on its connection, from 1
    connection: int = 0

    def all(self, name: str) -> list[str]:
        wanted = name.lower().encode()
        return [v.decode("latin-1") for n, v in self.headers if n.lower() == wanted]

    def get(self, name: str) -> str | None:
        values = self.all(name)
        return values[0] if values else None

    @property
    def names(self) -> set[str]:
        return {n.lower().decode("latin-1") for n, _ in self.headers}

    @property
    def source(self) -> str:
        """The address that the gateway says it was called from."""
        return (self.get("x-forwarded-for") or "").split(",")[-1].strip()


class Wire:
    """What a script may do with the connection of a request."""

    def __init__(self, sock: socket.socket, request: Recorded, stopping: threading.Event) -> None:
        self._socket = sock
        self.request = request
        self.stopping = stopping
        self.open = True

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self) -> bytes:
        """Bytes past the parsed request, for scripts that leave HTTP."""
        return self._socket.recv(_READ)

    def close(self) -> None:
        self.open = False

    def reset(self) -> None:
        """Close with a RST instead of an orderly end."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.open = False


Script = Callable[[Wire], None]


def answer_ok(wire: Wire) -> None:
    """The answer of every path without a script."""
    body = b"" if wire.request.method == "HEAD" else b"recorded"
    wire.send(
        b"HTTP/1.1 200 OK\r\nX-Recorder: yes\r\nContent-Type: text/plain\r\n"
        b"Content-Length: 8\r\n\r\n" + body
    )


class Recorder:
    """The backend. `requests`, `raw` and `errors` are what came in so far."""

    def __init__(self) -> None:
        self.requests: list[Recorded] = []
        self.raw: dict[int, bytes] = {}  # by connection number
        self.errors: list[str] = []
        self.scripts: dict[str, Script] = {}  # by path without query
        self.on_head: dict[str, Script] = {}  # the same, before the body is read
        self.default: Script = answer_ok
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def connections(self) -> int:
        with self._lock:
            return len(self.raw)

    def of(self, *, path: str | None = None, source: str | None = None) -> list[Recorded]:
        """Recorded requests with this path (without query) or client address, in order."""
        with self._lock:
            found = list(self.requests)
        if path is not None:
            found = [r for r in found if r.target.partition("?")[0] == path]
        if source is not None:
            found = [r for r in found if r.source == source]
        return found

    def drop_connections(self) -> None:
        """Close every open connection, as a restarting backend does."""
        with self._lock:
            for sock in self._open:
                _shut(sock)

    def stop(self) -> None:
        self._stopping.set()
        _shut(self._listener)
        self._listener.close()
        self.drop_connections()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                number = len(self.raw) + 1
                self.raw[number] = b""
                self._open.add(sock)
            threading.Thread(target=self._serve, args=(sock, number), daemon=True).start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        try:
            self._read_requests(sock, number)
        except OSError:
            pass  # the gateway closed first: what came is recorded
        finally:
            with self._lock:
                self._open.discard(sock)
            sock.close()

    def _read_requests(self, sock: socket.socket, number: int) -> None:
        reader = _Reader(self, sock, number)
        count = 0
        while True:
            request = reader.head()
            if request is None:
                return
            count += 1
            request.number, request.connection = count, number
            with self._lock:
                self.requests.append(request)
            wire = Wire(sock, request, self._stopping)
            path = request.target.partition("?")[0]
            if path in self.on_head:
                self.on_head[path](wire)
                if not wire.open:
                    return
            if not reader.body(request):
                return
            self.scripts.get(path, self.default)(wire)
            if not wire.open or not reader.next_request():
                return

    def note(self, number: int, data: bytes) -> None:
        with self._lock:
            self.raw[number] += data

    def fail(self, number: int, error: Exception) -> None:
        with self._lock:
            self.errors.append(f"{error} in {self.raw[number][-400:]!r}")


class _Reader:
    """h11 over a blocking socket, every byte noted."""

    def __init__(self, recorder: Recorder, sock: socket.socket, number: int) -> None:
        self._recorder, self._socket, self._number = recorder, sock, number
        self._wire = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_MAX)

    def head(self) -> Recorded | None:
        event = self._next()
        if not isinstance(event, h11.Request):
            return None
        return Recorded(
            event.method.decode(),
            event.target.decode("latin-1"),
            event.http_version,
            list(event.headers.raw_items()),
        )

    def body(self, request: Recorded) -> bool:
        """Read to the request's end; False when it never came."""
        while True:
            event = self._next()
            if isinstance(event, h11.Data):
                request.body += event.data
            elif isinstance(event, h11.EndOfMessage):
                request.trailers = list(event.headers.raw_items())
                request.complete = True
                return True
            else:
                return False

    def next_request(self) -> bool:
        """Answered: go on with what is left in the buffer."""
        left, closed = self._wire.trailing_data
        self._wire = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_MAX)
        if left:
            self._wire.receive_data(left)
        return not closed

    def _next(self) -> object:
        while True:
            try:
                event = self._wire.next_event()
            except h11.RemoteProtocolError as error:
                # An end inside a request is an abort, which is safe; anything
                # else is a request that should never have been forwarded.
                if "without sending complete" not in str(error):
                    self._recorder.fail(self._number, error)
                return None
            if event is not h11.NEED_DATA:
                return event
            if self._wire.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[])
                self._socket.sendall(self._wire.send(go_on) or b"")
            data = self._socket.recv(_READ)
            self._recorder.note(self._number, data)
            self._wire.receive_data(data)


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # already gone
        sock.shutdown(socket.SHUT_RDWR)
