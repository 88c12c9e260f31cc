"""Mutated requests before a backend that misbehaves: nothing leaks, nothing is lost.

Seeds are fixed; the mix of threads is not. After the storm no hold and no connection
is left, the log has no traceback (the stage looks), and the audit is clean.
"""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.support.configs import Caller, route, upstream
from tests.support.raw import head
from tests.support.stage import Stage, stage
from tests.support.until import until

CLIENTS = 8
CONNECTIONS = 60  # of each client
ANSWER = b"HTTP/1.1 200 OK\r\nDate: Fri, 20 Nov 2026 22:22:42 GMT\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n"
UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
)


class Unreliable:
    """A backend that answers well, badly, in pieces, too much, too little or not at all."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._random = random.Random(7)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(2)
        with connection, suppress(OSError):
            while True:
                data = b""
                while b"\r\n\r\n" not in data:
                    more = connection.recv(65_536)
                    if not more:
                        return
                    data += more
                answer = self._choose()
                if not answer:
                    return
                send_in_pieces(connection, answer, self._random)

    def _choose(self) -> bytes:
        dice = self._random.random()
        if dice < 0.1:
            return b""
        if dice < 0.2:
            return CHUNKED
        if dice < 0.3:
            return b"HTTP/1.1 100 Continue\r\n\r\n" + ANSWER
        if dice < 0.4:
            return mutated(ANSWER, self._random, 0.02)
        if dice < 0.5:
            return ANSWER[: self._random.randrange(1, len(ANSWER))]
        if dice < 0.55:
            return ANSWER + b"extra"
        if dice < 0.6:
            return b"HTTP/1.1 304 Not Modified\r\n\r\n"
        return ANSWER


def mutated(data: bytes, dice: random.Random, rate: float) -> bytes:
    return bytes(dice.randrange(256) if dice.random() < rate else byte for byte in data)


def send_in_pieces(connection: socket.socket, data: bytes, dice: random.Random) -> None:
    sent = 0
    while sent < len(data):
        size = dice.choice((1, 7, 100, 10_000))
        connection.sendall(data[sent : sent + size])
        sent += size


def requests(who: Caller) -> list[bytes]:
    post = head("POST", "/x", who.bearer, "Content-Length: 5") + b"hello"
    return [
        head("GET", "/x", who.bearer),
        head("GET", "/x", who.bearer),
        head("HEAD", "/x", who.bearer),
        post,
        post[:-3],
        head("POST", "/x", who.bearer, "Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n",
        head("POST", "/x", who.bearer, "Expect: 100-continue", "Content-Length: 5"),
        head("GET", "/ws", who.bearer, *UPGRADE.split("\r\n")) + b"early",
        head("GET", "/v1/usage", who.bearer),
        head("GET", "/x"),
    ]


def storm(port: int, who: Caller, seed: int) -> None:
    dice = random.Random(seed)
    kinds = requests(who)
    for _ in range(CONNECTIONS):
        data = b"".join(dice.choice(kinds) for _ in range(dice.choice((1, 1, 2, 5))))
        if dice.random() < 0.4:
            data = mutated(data, dice, 0.01)
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as connection:
            connection.settimeout(dice.choice((0.02, 0.1, 0.4)))
            send_in_pieces(connection, data, dice)
            while dice.random() < 0.8 and connection.recv(65_536):
                pass


@pytest.fixture
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    backend = Unreliable()
    routes = [route("* /{path...}", {"coins": 1}, upstream="unreliable")]
    with stage(
        tmp_path_factory.mktemp("fuzz"),
        routes,
        accounts=CLIENTS,
        upstreams={"unreliable": upstream(backend.port, read_timeout="1s")},
        server={"head_timeout": "1s", "body_timeout": "1s", "keepalive_timeout": "2s"},
    ) as running:
        yield running
    backend.close()


def test_nothing_leaks_and_nothing_is_lost(fuzzed: Stage) -> None:
    callers = [fuzzed.newcomer() for _ in range(CLIENTS)]
    threads = [
        threading.Thread(target=storm, args=(fuzzed.port, who, seed), daemon=True)
        for seed, who in enumerate(callers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()

    def is_quiet() -> bool:
        lines = fuzzed.gateway.admin("/metrics").body.decode().splitlines()
        return {"tallygate_in_flight 0.0", "tallygate_connections 0.0"} <= set(lines)

    until(is_quiet, what="holds and connections to be gone")
    for who in callers:
        assert fuzzed.gateway.usage(who)["in_flight"] == 0
    lines = fuzzed.gateway.admin("/metrics").body.decode().splitlines()
    assert "tallygate_internal_errors_total 0.0" in lines
    assert fuzzed.gateway.cli("audit").code == 0
