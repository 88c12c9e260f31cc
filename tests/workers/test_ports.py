"""Ports that are kept for several processes."""

from __future__ import annotations

import socket

import pytest

from gateway.workers.ports import hold_port, listening


def listener(port: int, *, shared: bool) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", port))
    made.listen()
    return made


def test_a_free_port_is_found_and_kept() -> None:
    port = hold_port("127.0.0.1", 0)
    assert port.number > 0
    with listener(port.number, shared=True), listener(port.number, shared=True):
        # Only who listens is connected to, not who keeps it.
        for _ in range(20):
            socket.create_connection(("127.0.0.1", port.number), 5).close()
    port.close()


@pytest.mark.parametrize("shared", [True, False])
def test_a_port_that_others_listen_on_is_refused(shared: bool) -> None:
    with listener(0, shared=shared) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"127.0.0.1:{number}: address already in use"):
            hold_port("127.0.0.1", number)


def test_all_addresses_of_a_name_have_the_same_port() -> None:
    port = hold_port("localhost", 0)
    assert {kept.getsockname()[1] for kept in port.sockets} == {port.number}
    port.close()


@pytest.mark.parametrize(
    ("host", "error", "text"),
    [
        ("127.0.0.1", OSError(98, "while binding"), "k 127.0.0.1:80: address already in use"),
        ("::1", PermissionError(13, "x"), r"k \[::1\]:80: permission denied"),
        ("no.test", socket.gaierror(-2, "Name not known"), "k no.test:80: Name not known"),
    ],
)
def test_what_cannot_be_listened_on_is_named(host: str, error: OSError, text: str) -> None:
    with pytest.raises(OSError, match=text) as raised, listening("k", host, 80):
        raise error
    assert raised.value.errno == error.errno
