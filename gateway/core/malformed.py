"""The one exception for requests that must not be understood.

A request that two parsers could read differently is answered with `status`
and its connection is closed; nothing of it reaches a backend. Everything that
is merely not allowed is a `Refusal`, a value (core/refusals.py).
"""

from __future__ import annotations


class Malformed(Exception):
    """A request whose meaning is not certain.

    `status` is 400 unless a more precise one is due (405, 417, 501, 505);
    `reason` is one sentence for the caller, without anything of the request.
    """

    def __init__(self, reason: str, status: int = 400, code: str = "bad_request") -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.code = code
