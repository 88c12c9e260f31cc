"""WebSocket frames as they pass: how many messages, and where one ends.

Source: RFC 6455 5.2. Only headers are read; nothing is kept of the payload.
Must not change, hold back or judge a byte: the two ends do that themselves.
"""

from __future__ import annotations

_HEAD_MAX = 14  # 2 bytes, 8 of extended length, 4 of mask


class FrameCounter:
    """One direction. `messages` counts the final frames of text and binary messages."""

    __slots__ = ("messages", "_left", "_head")

    def __init__(self) -> None:
        self.messages = 0
        self._left = 0  # payload bytes of the frame that is passing
        self._head = b""  # of a frame header that is not whole yet

    @property
    def is_between_frames(self) -> bool:
        return self._left == 0 and not self._head

    def take(self) -> int:
        """The messages since the last call."""
        messages, self.messages = self.messages, 0
        return messages

    def feed(self, data: bytes) -> None:
        at = 0
        size = len(data)
        while at < size or self._head:
            if self._left:
                step = min(self._left, size - at)
                self._left -= step
                at += step
                continue
            head = self._head + data[at : at + _HEAD_MAX - len(self._head)]
            length = self._read(head)
            if length == 0:
                self._head = head
                return
            at += length - len(self._head)
            self._head = b""

    def _read(self, head: bytes) -> int:
        """The header's length; 0 while it is not whole. Sets what is left of the frame."""
        if len(head) < 2:
            return 0
        size = head[1] & 0x7F
        extended = {126: 2, 127: 8}.get(size, 0)
        length = 2 + extended + (4 if head[1] & 0x80 else 0)
        if len(head) < length:
            return 0
        self._left = int.from_bytes(head[2 : 2 + extended], "big") if extended else size
        # A message ends with the frame that has FIN; control frames (8 and up) are none.
        self.messages += bool(head[0] & 0x80) and (head[0] & 0x0F) < 8
        return length
