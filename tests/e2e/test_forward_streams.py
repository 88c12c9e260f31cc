"""Bodies of any size in constant memory, events without delay, tunnels byte for byte."""

from __future__ import annotations

import base64
import hashlib
import socket
import threading
import time

import pytest

from tests.support import scripts
from tests.support.bulk import BLOCK, BulkServer
from tests.support.configs import Caller
from tests.support.raw import RawConnection, connected, head
from tests.support.recorder import Wire
from tests.support.scripts import OK
from tests.support.stage import Stage
from tests.support.until import until

MEMORY_MB = 150  # the most that the gateway may ever hold
LARGE = 200_000_000
HUGE = [LARGE, pytest.param(2_000_000_000, marks=pytest.mark.slow)]
# What may stand in the buffers of four sockets and the gateway while nobody reads.
UNREAD_MAX = 80_000_000


def request(who: Caller, method: str, target: str, *lines: str) -> bytes:
    return head(method, target, who.bearer, *lines, "Connection: close", host="bulk.test")


def read_body(connection: RawConnection) -> tuple[bytes, int, bytes]:
    """Head, number of bytes after it, and the last of them, without keeping the rest."""
    sock = connection.socket
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(65_536)
    start, _, rest = data.partition(b"\r\n\r\n")
    count, last = len(rest), rest
    while more := sock.recv(1_048_576):
        count += len(more)
        last = (last + more)[-16:] if len(more) < 16 else more[-16:]
    return start, count, last


def send_body(connection: RawConnection, size: int, chunked: bool) -> None:
    left = size
    while left:
        block = BLOCK[: min(left, len(BLOCK))]
        connection.socket.sendall(b"%x\r\n%b\r\n" % (len(block), block) if chunked else block)
        left -= len(block)
    if chunked:
        connection.socket.sendall(b"0\r\n\r\n")


@pytest.mark.parametrize("kind", ["down", "chunked"])
@pytest.mark.parametrize("size", HUGE)
def test_large_download_in_constant_memory(e2e: Stage, who: Caller, kind: str, size: int) -> None:
    with connected(e2e.port) as connection:
        connection.send(request(who, "GET", f"/{kind}/{size}"))
        start, count, last = read_body(connection)
    assert start.startswith(b"HTTP/1.1 200 ")
    assert count == size if kind == "down" else (count > size and last.endswith(b"0\r\n\r\n"))
    assert e2e.gateway.rss_peak_mb() < MEMORY_MB
    event = e2e.gateway.wait_event(account=who.account)
    assert (event.outcome, event.bytes_out) == ("charged", size)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", HUGE)
def test_large_upload_in_constant_memory(e2e: Stage, who: Caller, chunked: bool, size: int) -> None:
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
    with connected(e2e.port) as connection:
        connection.send(request(who, "PUT", "/up", framing))
        send_body(connection, size, chunked)
        answer = connection.answer("PUT", timeout_s=60)
    assert answer.status == 200
    assert int(answer.body) >= size
    assert e2e.gateway.rss_peak_mb() < MEMORY_MB
    event = e2e.gateway.wait_event(account=who.account)
    assert (event.outcome, event.bytes_in) == ("charged", size)


def stands_still(ask: object) -> int:
    """The value of a counter once it has not moved for half a second."""
    seen: list[tuple[float, int]] = []

    def still() -> bool:
        seen.append((time.monotonic(), ask()))  # type: ignore[operator]
        return seen[-1][1] == next(v for t, v in seen if t > seen[-1][0] - 0.5) and (
            seen[-1][0] - seen[0][0] > 0.6
        )

    until(still, what="a standstill")
    return seen[-1][1]


def test_client_that_does_not_read_slows_the_backend(
    e2e: Stage, who: Caller, bulk: BulkServer
) -> None:
    before = bulk.sent
    with connected(e2e.port) as connection:
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        connection.send(request(who, "GET", f"/down/{LARGE}"))
        assert stands_still(lambda: bulk.sent) - before < UNREAD_MAX
        _, count, _ = read_body(connection)
    assert count == LARGE
    assert e2e.gateway.rss_peak_mb() < MEMORY_MB


def test_backend_that_does_not_read_slows_the_client(e2e: Stage, who: Caller) -> None:
    path = f"/no-read/{who.account}"
    gate = scripts.Gate(before=b"", after=b"HTTP/1.1 100 Continue\r\n\r\n")
    e2e.recorder.on_head[path] = gate
    sent = 0
    with connected(e2e.port) as connection:
        connection.send(head("PUT", path, who.bearer, f"Content-Length: {LARGE}"))
        connection.socket.settimeout(1.0)
        with pytest.raises(TimeoutError):
            while sent < LARGE:
                sent += connection.socket.send(BLOCK)
        assert sent < UNREAD_MAX
    gate.open()
    assert e2e.gateway.rss_peak_mb() < MEMORY_MB
    assert e2e.used(who) == 0  # the client went away inside its body


def test_server_sent_events_arrive_one_by_one(e2e: Stage, who: Caller) -> None:
    """The backend sends the next event only when the client has the one before."""
    path = f"/sse/{who.account}"
    arrived = threading.Semaphore(0)

    def script(wire: Wire) -> None:
        wire.send(OK + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(20):
            event = b"data: %d\n\n" % number
            wire.send(b"%x\r\n%b\r\n" % (len(event), event))
            if not arrived.acquire(timeout=10):
                wire.reset()
                return
        wire.send(b"0\r\n\r\n")

    e2e.recorder.scripts[path] = script
    with connected(e2e.port) as connection:
        connection.send(head("GET", path, who.bearer, "Accept: text/event-stream"))
        for number in range(20):
            wanted = b"data: %d\n\n" % number
            connection.receive(lambda got, wanted=wanted: wanted in got)  # type: ignore[misc]
            arrived.release()
        assert connection.answer().complete
    assert e2e.used(who) == 1


WS_KEY = base64.b64encode(b"0123456789abcdef").decode()
WS_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def ws_request(who: Caller, path: str, *lines: str) -> bytes:
    return head("GET", path, who.bearer, "Connection: keep-alive, Upgrade", "Upgrade: websocket",
                "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {WS_KEY}",
                "Sec-WebSocket-Protocol: chat", "Origin: http://o.test", *lines)  # fmt: skip


def accept_of(key: str) -> bytes:
    return base64.b64encode(hashlib.sha1((key + WS_GUID).encode()).digest())


def echo(wire: Wire) -> None:
    """Accept the WebSocket and send everything back, byte for byte."""
    accept = accept_of(wire.request.get("sec-websocket-key") or "")
    wire.send(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    while data := wire.receive():
        wire.send(data)
    wire.close()


def test_websocket_is_passed_through(e2e: Stage, who: Caller) -> None:
    path = f"/ws/{who.account}"
    e2e.recorder.scripts[path] = echo
    frame = b"\x82\xfe\x01\x00abcd" + bytes(range(256))
    with connected(e2e.port) as connection:
        connection.send(ws_request(who, path))
        answer = connection.answer()
        assert (answer.status, answer.get("sec-websocket-protocol")) == (101, "chat")
        assert answer.get("sec-websocket-accept") == accept_of(WS_KEY).decode()
        for _ in range(100):
            seen = len(connection.received)
            connection.send(frame)
            connection.receive(lambda got, at=seen: len(got) >= at + len(frame))  # type: ignore[misc]
            assert connection.received.endswith(frame)
    (request,) = e2e.recorded(who)
    assert request.get("origin") == "http://o.test"
    assert "authorization" not in request.names
    event = e2e.gateway.wait_event(account=who.account)
    assert (event.status, event.outcome, event.charges) == (101, "charged", {"coins": 1})
    assert event.bytes_in >= 100 * len(frame) <= event.bytes_out
    assert e2e.used(who) == 1


def test_websocket_bytes_sent_early_are_not_lost(e2e: Stage, who: Caller) -> None:
    path = f"/ws-early/{who.account}"
    e2e.recorder.scripts[path] = echo
    with connected(e2e.port) as connection:
        connection.send(ws_request(who, path))
        assert connection.answer().status == 101
        connection.send(b"a" * 300_000)
        connection.receive(lambda got: got.endswith(b"a" * 300_000))


def test_websocket_refused_by_the_backend_is_an_ordinary_answer(e2e: Stage, who: Caller) -> None:
    with connected(e2e.port) as connection:
        connection.send(ws_request(who, f"/no-ws/{who.account}"))
        assert connection.answer().body == b"recorded"


@pytest.mark.parametrize("accept", [b"wrong", None])
def test_websocket_with_a_wrong_accept_is_no_tunnel(
    e2e: Stage, who: Caller, accept: bytes | None
) -> None:
    path = f"/bad-ws/{who.account}"
    line = b"" if accept is None else b"Sec-WebSocket-Accept: %b\r\n" % accept
    e2e.recorder.scripts[path] = scripts.sends(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n%b\r\n"
        % line
    )
    answer = e2e.ask(ws_request(who, path))
    assert (answer.status, answer.code) == (502, "upstream_error")
    assert e2e.used(who) == 0


def test_websocket_needs_a_key(e2e: Stage) -> None:
    data = head("GET", "/ws", "Connection: Upgrade", "Upgrade: websocket",
                "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {WS_KEY}")  # fmt: skip
    assert e2e.ask(data).status == 401


def test_websocket_of_a_vanished_client_ends_at_the_backend(e2e: Stage, who: Caller) -> None:
    path = f"/ws-gone/{who.account}"
    ended = threading.Event()

    def script(wire: Wire) -> None:
        try:
            echo(wire)
        finally:
            ended.set()

    e2e.recorder.scripts[path] = script
    with connected(e2e.port) as connection:
        connection.send(ws_request(who, path))
        assert connection.answer().status == 101
        connection.abort()
    assert ended.wait(10)
    assert e2e.gateway.wait_event(account=who.account).status == 101
