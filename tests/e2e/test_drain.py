"""The end of a gateway: who was accepted before it is answered, who comes later is not let in."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.app import Gateway
from gateway.log import LogThread
from gateway.proxy.server import ACCEPTED_S
from tests.support import scripts
from tests.support.configs import config, pool, route, write
from tests.support.raw import head
from tests.support.recorder import Recorder

(ROOMY,) = pool("acct", 1)
PLANS = {"roomy": {"allowances": {"coins": {"amount": 1_000, "per": "month"}}}}


@asynccontextmanager
async def started(home: Path, recorder: Recorder) -> AsyncIterator[Gateway]:
    routes = [route("GET /n/{id}", {"coins": 1}), route("GET /hang/{id}", {"coins": 1})]
    built = config(recorder.port, routes=routes, callers={"roomy": [ROOMY]}, plans=PLANS)
    file = home / "gateway.yaml"
    write(built, file, port=0, admin_port=0, data_dir=home / "data")
    thresholds = gc.get_threshold()
    log = LogThread("error")
    gateway = Gateway(file, os.environ, log)
    await gateway.start()
    try:
        yield gateway
    finally:
        recorder.stop()
        log.close()
        gc.unfreeze()
        gc.set_threshold(*thresholds)


async def test_a_connection_that_arrives_while_it_drains_is_served(tmp_path: Path) -> None:
    """As one does that was accepted, or was in its TLS handshake, as the listener closed."""
    recorder = Recorder()
    recorder.scripts["/hang/1"] = gate = scripts.Gate()
    async with started(tmp_path, recorder) as gateway:
        # Its second door stays open when the gateway closes its own.
        door = await gateway.loop.create_server(gateway.server, "127.0.0.1", 0)
        port = door.sockets[0].getsockname()[1]
        hanging = asyncio.create_task(ask(port, "/hang/1"))
        await asyncio.to_thread(gate.reached.wait, 10)
        ending = asyncio.create_task(gateway.stop())
        while not gateway.server.is_draining:
            await asyncio.sleep(0.01)
        assert (await ask(port, "/n/1")).startswith(b"HTTP/1.1 200 ")
        gate.open()
        assert (await hanging).startswith(b"HTTP/1.1 200 ")
        await ending
        assert (await ask(port, "/n/2")).startswith(b"HTTP/1.1 503 ")
        door.close()
    assert [request.target for request in recorder.of()] == ["/hang/1", "/n/1"]


async def test_a_request_that_has_arrived_keeps_its_connection_from_being_idle(
    tmp_path: Path,
) -> None:
    recorder = Recorder()
    async with started(tmp_path, recorder) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.proxy_port)
        for n in range(2):
            writer.write(head("GET", f"/n/{n}", ROOMY.bearer))
            for connection in gateway.server.connections:
                connection.close()  # the gateway's loop has read nothing of it yet
            answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
            assert answer.startswith(b"HTTP/1.1 200 ")
            await reader.readexactly(int(answer.lower().split(b"content-length: ")[1].split()[0]))
        (connection,) = gateway.server.connections
        connection.close()
        assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()
        await writer.wait_closed()
        await gateway.stop()


async def test_who_was_told_to_ask_again_as_it_began_to_drain_may_ask_again(
    tmp_path: Path,
) -> None:
    """The others serve on at the same port: there is no hurry."""
    recorder = Recorder()
    begun, rest = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab", b"cd"
    recorder.scripts["/hang/1"] = gate = scripts.Gate(before=begun, after=rest)
    async with started(tmp_path, recorder) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.proxy_port)
        writer.write(head("GET", "/hang/1", ROOMY.bearer))
        told = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        assert b"connection: close" not in told.lower()
        draining = asyncio.create_task(gateway.server.drain(20.0, asyncio.Event()))
        await asyncio.sleep(5 * ACCEPTED_S)
        gate.open()
        assert await asyncio.wait_for(reader.readexactly(4), 20) == b"abcd"
        await asyncio.sleep(ACCEPTED_S)
        writer.write(head("GET", "/n/1", ROOMY.bearer))
        told = await asyncio.wait_for(reader.read(), 20)
        assert told.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" in told.lower()
        writer.close()
        await writer.wait_closed()
        assert await draining == 0
        await gateway.stop()


async def ask(port: int, path: str) -> bytes:
    """Everything until the connection ends: the gateway keeps none alive now."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head("GET", path, ROOMY.bearer))
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    return answer
