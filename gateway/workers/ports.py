"""A port that several processes are to listen on, kept for them.

The supervisor binds it and does not listen, so that port 0 becomes a number which no other
process is given while no worker listens. Must not accept connections.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Port(NamedTuple):
    """`number` is the one that was found."""

    number: int
    sockets: tuple[socket.socket, ...]

    def close(self) -> None:
        for kept in self.sockets:
            kept.close()


def hold_port(host: str, port: int) -> Port:
    """Bind all addresses of a host. Raises OSError, also where others listen with SO_REUSEPORT."""
    kept: list[socket.socket] = []
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            wanted = (address[0], port, *address[2:])
            if port:
                _refuse_taken(family, wanted)
            held = socket.socket(family, kind, protocol)
            kept.append(held)
            _prepare(held)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.bind(wanted)
            port = held.getsockname()[1]
    except OSError:
        Port(port, tuple(kept)).close()
        raise
    return Port(port, tuple(kept))


@contextmanager
def listening(key: str, host: str, port: int) -> Iterator[None]:
    """An OSError within says which key of the configuration, host and port it is about."""
    try:
        yield
    except OSError as error:
        number = error.errno or 0  # below 0 it is the resolver's
        reason = os.strerror(number).lower() if number > 0 else error.strerror or str(error)
        shown = f"[{host}]" if ":" in host else host
        raise OSError(error.errno, f"{key} {shown}:{port}: {reason}") from None


def _refuse_taken(family: int, address: tuple[object, ...]) -> None:
    """With SO_REUSEPORT another gateway of this user would take half of the connections."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        _prepare(probe)
        try:
            probe.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            text = f"{address[0]}:{address[1]}: {os.strerror(errno.EADDRINUSE).lower()}"
            raise OSError(errno.EADDRINUSE, text) from None


def _prepare(made: socket.socket) -> None:
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if made.family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
