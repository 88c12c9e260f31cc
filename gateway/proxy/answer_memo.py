"""The head of an answer that a pool remembers (docs/decisions/0006-memos.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.proxy.upstream import UpstreamConnection


class AnswerMemo:
    """The head of an answer of known length, and what it was parsed to.

    `block` is what clients on HTTP/1.1 get of it, made at its first use with
    the Via line `via` (proxy/forward.py).
    """

    __slots__ = ("head", "status", "reason", "lines", "length", "via", "block", "is_plain")

    def __init__(self, head: bytes, answer: UpstreamConnection) -> None:
        self.head = head
        self.status = answer.status
        self.reason = answer.reason
        self.lines = answer.lines
        self.length = answer.length
        self.via = b""
        self.block = b""
        self.is_plain: bool | None = None  # neither compressed nor a stream (proxy/measure.py)
