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
        tail = f"{self._tail:016x}"
        return f"{self._head}{tail[:4]}-{tail[4:]}"

    def _start(self, millisecond: int) -> None:
        """A new millisecond: 12 random bits before, 61 behind the variant bits."""
        noise = int.from_bytes(os.urandom(10), "big")
        stamp = f"{millisecond:012x}"
        self._millisecond = millisecond
        self._head = f"{stamp[:8]}-{stamp[8:]}-7{noise & 0xFFF:03x}-"
        # The top bit after the variant stays 0, so counting up never reaches it.
        self._tail = (0b10 << 62) | ((noise >> 12) & ((1 << 61) - 1))
