"""Event ids: UUIDv7 (RFC 9562), in the order in which they were given out."""

from __future__ import annotations

import os


class EventIds:
    """UUIDv7 texts; within a millisecond they count up from a random number."""

    def __init__(self) -> None:
        self._millisecond = -1
        self._head = ""
        self._tail = 0

    def next(self, now_us: int) -> str:
        millisecond = now_us // 1000
        if millisecond > self._millisecond:
            self._start(millisecond)
        self._tail += 1
        return "%s%012x" % (self._head, self._tail)  # noqa: UP031 - half the time of an f-string

    def _start(self, millisecond: int) -> None:
        """A new millisecond: 26 random bits in front, a counter from 47 random bits behind."""
        noise = os.urandom(10)
        stamp = f"{millisecond:012x}"
        front = int.from_bytes(noise[:4], "big")
        self._millisecond = millisecond
        self._head = (
            f"{stamp[:8]}-{stamp[8:]}-7{front & 0xFFF:03x}-{0x8000 | front >> 12 & 0x3FFF:04x}-"
        )
        # The counter's top bit starts as 0, so that counting up never overflows it.
        self._tail = int.from_bytes(noise[4:], "big") >> 1
