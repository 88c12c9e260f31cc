"""Backends that behave badly, each as a script for one path of the recorder.

Every script is one way in which real backends fail; what a gateway has to make
of it stands in the tests.
"""

from __future__ import annotations

import threading

from tests.support.recorder import Script, Wire

OK = b"HTTP/1.1 200 OK\r\nX-Recorder: yes\r\n"


def sends(data: bytes, *, close: bool = False) -> Script:
    """Exactly these bytes, then keep the connection or close it."""

    def script(wire: Wire) -> None:
        wire.send(data)
        if close:
            wire.close()

    return script


def resets_after(data: bytes) -> Script:
    """These bytes, then a RST."""

    def script(wire: Wire) -> None:
        if data:
            wire.send(data)
        wire.reset()

    return script


def closes(wire: Wire) -> None:
    """Close without an answer."""
    wire.close()


def closes_when_reused(wire: Wire) -> None:
    """Answer the first request of a connection; close at the second, unanswered."""
    if wire.request.number > 1:
        wire.close()
        return
    wire.send(OK + b"Content-Length: 8\r\n\r\nrecorded")


class Gate:
    """A script that waits until the test opens it, and says when it was reached."""

    def __init__(self, before: bytes = b"", after: bytes = b"") -> None:
        self.reached = threading.Event()
        self._open = threading.Event()
        self.sent = threading.Event()
        self._before, self._after = before, after

    def __call__(self, wire: Wire) -> None:
        if self._before:
            wire.send(self._before)
        self.reached.set()
        while not self._open.wait(0.05):
            if wire.stopping.is_set():
                wire.close()
                return
        wire.send(self._after or OK + b"Content-Length: 8\r\n\r\nrecorded")
        self.sent.set()

    def open(self) -> None:
        self._open.set()
