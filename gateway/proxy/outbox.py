"""What goes out at the end of this turn of the loop, together.

Question: when do bytes leave? Heads and whole answers wait until every socket
that was readable has been served; then the journal is written once for all of
them, and after it they are sent. Invariant: nothing queued here leaves before
the journal has what it was promised (`before`). Sending together wakes the
other side once instead of for each answer: a tenth of the CPU per request
(docs/decisions/0005-outbox.md). Streams write directly, after `flush`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Outbox:
    """One per event loop."""

    __slots__ = ("_loop", "_before", "_queue", "_on_failure", "_is_due")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        before: Callable[[], None],
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._loop = loop
        self._before = before
        self._on_failure = on_failure
        self._queue: list[tuple[asyncio.Transport, bytes]] = []
        self._is_due = False

    def put(self, transport: asyncio.Transport, data: bytes) -> None:
        """Send `data` at the end of this turn."""
        if not self._is_due:
            self.touch()
        self._queue.append((transport, data))

    def touch(self) -> None:
        """The journal has something to write at the end of this turn."""
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._is_due = False
        self.flush()

    def flush(self) -> None:
        """Journal, then send what is queued. On a broken journal nothing is sent."""
        queue, self._queue = self._queue, []
        try:
            self._before()
        except Exception as exc:
            for transport, _ in queue:
                transport.abort()
            self._on_failure(exc)
            return
        for transport, data in queue:
            if not transport.is_closing():
                transport.write(data)
