"""The proxy's listening sockets, from which no client is lost when they are closed.

The kernel has connections in its queue that nobody has accepted yet, and would reset them.
Invariant: who is in the queue when it ends is let in. Must not know what is served.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable

BACKLOG = 1024

Factory = Callable[[], asyncio.Protocol]


class Door:
    """`open`, then `close`."""

    def __init__(self, factory: Factory, tls: ssl.SSLContext | None) -> None:
        self._factory = factory
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._last: set[asyncio.Task[None]] = set()

    async def open(self, host: str, port: int, is_shared: bool) -> int:
        """Listen; the port. `is_shared`: with other processes. Raises OSError."""
        self._server = await asyncio.get_running_loop().create_server(
            self._factory, host, port, ssl=self._tls, backlog=BACKLOG, reuse_port=is_shared
        )
        found: int = self._server.sockets[0].getsockname()[1]
        return found

    def close(self) -> None:
        """Let in who has knocked, and nobody else."""
        if self._server is None:
            return
        # Copies keep the kernel's sockets, and their queues, when the server closes its own.
        kept = [socket.socket(fileno=os.dup(each.fileno())) for each in self._server.sockets]
        self._server.close()
        loop = asyncio.get_running_loop()
        for client in [client for each in kept for client in _queue(each)]:
            task = loop.create_task(self._let_in(client))
            self._last.add(task)
            task.add_done_callback(self._last.discard)

    async def _let_in(self, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(self._factory, client, ssl=self._tls)
        except OSError:  # it has gone, or its TLS handshake failed
            client.close()


def _queue(door: socket.socket) -> list[socket.socket]:
    """All that wait at a listening socket, which is closed."""
    found: list[socket.socket] = []
    with door:
        door.setblocking(False)
        while True:
            try:
                client, _ = door.accept()
            except OSError:  # nobody is left, or no descriptor
                return found
            client.setblocking(False)
            found.append(client)
