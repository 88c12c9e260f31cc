"""The proxy's listening sockets: who is in the kernel's queue when they close is let in."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gateway.proxy.door import Door
from tests.support.tls import Certificate


class Greets(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        transport.write(b"hello")
        transport.close()


LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.mark.parametrize("loop", LOOPS)
def test_who_has_knocked_is_let_in_and_nobody_later(loop: object) -> None:
    async def play() -> list[bytes]:
        door = Door(Greets, None)
        port = await door.open("127.0.0.1", 0, False)
        # No turn of the loop in between: the kernel has taken them, and nobody else has.
        clients = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(50)]
        door.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 5)
        return await asyncio.gather(*[asyncio.to_thread(_read, client) for client in clients])

    with asyncio.Runner(loop_factory=loop) as runner:  # type: ignore[arg-type]
        assert runner.run(play()) == [b"hello"] * 50


@pytest.mark.parametrize("loop", LOOPS)
def test_one_whose_handshake_fails_keeps_nobody_out(loop: object, tmp_path: Path) -> None:
    certificate = Certificate(tmp_path)

    async def play() -> tuple[bytes, bytes]:
        door = Door(Greets, certificate.context())
        port = await door.open("127.0.0.1", 0, False)
        plain, good = (socket.create_connection(("127.0.0.1", port), 5) for _ in range(2))
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        found: list[bytes] = []
        trusting = ssl.create_default_context(cafile=str(certificate.file))

        def shake() -> None:
            with trusting.wrap_socket(good, server_hostname="localhost") as client:
                found.append(client.recv(100))

        thread = threading.Thread(target=shake)
        door.close()
        thread.start()
        await asyncio.to_thread(thread.join, 10)
        return found[0], await asyncio.to_thread(_read, plain)

    with asyncio.Runner(loop_factory=loop) as runner:  # type: ignore[arg-type]
        greeted, refused = runner.run(play())
    assert greeted == b"hello"
    assert b"hello" not in refused


async def test_a_door_that_was_never_opened_is_closed() -> None:
    Door(Greets, None).close()


def _read(client: socket.socket) -> bytes:
    with client:
        data = b""
        try:
            while more := client.recv(100):
                data += more
        except ConnectionResetError:
            pass
        return data
