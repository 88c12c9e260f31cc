"""What can go wrong with the journal, on one screen.

JournalFull is an expected state with a configured answer; the others mean that
somebody has to look.
"""

from __future__ import annotations


class JournalError(Exception):
    """The journal cannot do what it promises."""


class JournalFull(JournalError):
    """No room for another request; `reason` says why, `journal.is_full` until it passes.

    Reasons: "max_size" (unshipped records fill the configured limit), "disk" (the next
    segment could not be reserved), "failed" (an earlier write or fsync failed; restart).
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"journal full ({reason}): {detail}")
        self.reason = reason


class JournalBroken(JournalError):
    """A record could not be written: the request it belongs to must not be acknowledged."""


class JournalDamaged(JournalError):
    """A record that was once complete cannot be read; `path` and `offset` say where."""

    def __init__(self, path: str, offset: int, what: str) -> None:
        super().__init__(f"{path}: byte {offset}: {what}")
        self.path = path
        self.offset = offset


class JournalMismatch(JournalError):
    """Journal and store do not belong together; the text names the remedy."""
