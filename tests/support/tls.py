"""TLS in front of servers that have none: a certificate, and a listener that passes on.

The Valkey of the tests' wheel is built without TLS. What a gateway sees is the same.
"""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import threading
from contextlib import closing, suppress
from pathlib import Path

_GOOD_BYE_S = 0.1  # for whoever is asked to end its half of a connection
_SUBJECT = ("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost")


class Certificate:
    """Of 127.0.0.1, signed by itself; made by the openssl command."""

    def __init__(self, home: Path) -> None:
        self.file, self._key = home / "cert.pem", home / "key.pem"
        made = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        files = ("-keyout", str(self._key), "-out", str(self.file))
        command = ["openssl", "req", "-x509", "-days", "2", *made, *files, *_SUBJECT]
        subprocess.run(command, check=True, capture_output=True, timeout=30)

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file, self._key)
        return context


class Fronts:
    """Listeners with TLS, in a thread of their own."""

    def __init__(self, certificate: Certificate) -> None:
        self._context = certificate.context()
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def add(self, to_port: int, port: int = 0, replaced: dict[int, int] | None = None) -> int:
        """Listen; the port. `replaced`: ports that answers name, and what is told instead."""
        added = self._add(to_port, port, replaced or {})
        return asyncio.run_coroutine_threadsafe(added, self._loop).result(10)

    async def _add(self, to_port: int, port: int, replaced: dict[int, int]) -> int:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            with suppress(OSError, asyncio.CancelledError), closing(writer):
                behind_reader, behind = await asyncio.open_connection("127.0.0.1", to_port)
                with closing(behind):
                    await asyncio.gather(
                        _pass_on(reader, behind, {}), _pass_on(behind_reader, writer, replaced)
                    )
            self._tasks.discard(task)

        server = await asyncio.start_server(
            accept, "127.0.0.1", port, ssl=self._context, ssl_shutdown_timeout=_GOOD_BYE_S
        )
        self._servers.append(server)
        listening: int = server.sockets[0].getsockname()[1]
        return listening

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _stop(self) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        while self._tasks:
            await asyncio.sleep(0.01)
        await asyncio.sleep(2 * _GOOD_BYE_S)  # transports end in turns of their own


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, replaced: dict[int, int]
) -> None:
    try:
        while data := await reader.read(65_536):
            for told, instead in replaced.items():
                data = data.replace(b"\r\n%d\r\n" % told, b"\r\n%d\r\n" % instead)
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
