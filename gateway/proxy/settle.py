"""Settle: what a request was charged, said once, on every way out.

Who reserves, settles: `settle` is reached by every admitted request, whatever
became of it. Rules: a request that the backend received whole is charged, also
when the client went away meanwhile; what the backend did not answer whole is not. The event is
in the journal when this returns, so the caller may send the last byte.
"""

from __future__ import annotations

from typing import Protocol

from gateway.core.pricing import Charges
from gateway.proxy.exchange import Exchange
from gateway.state.memory import MemoryState

CHARGED, FREE, CLIENT_GONE = "charged", "free", "client_gone"
# The backend or the gateway failed the caller: nothing is charged.
UNCHARGED = frozenset(
    ("upstream_error", "upstream_timeout", "upstream_unreachable", "upload_aborted", "body_error",
     "gateway_error")
)  # fmt: skip


class CloseLog(Protocol):
    """The part of the journal that settling needs."""

    def write_close(self, fields: tuple[object, ...]) -> int: ...


def settle(
    x: Exchange, outcome: str, state: MemoryState, journal: CloseLog | None, now_us: int
) -> int:
    """Post or release the hold and write the event; its journal sequence."""
    hold = x.hold
    assert hold is not None and hold.is_open, "settled once, and only when admitted"
    charges: Charges = x.charges
    if outcome in UNCHARGED:
        state.release(hold)
        posted: tuple[tuple[str, int, int], ...] = ()
    else:
        posted = state.settle(hold, charges)
        if outcome == CHARGED and not charges:
            outcome = FREE
    x.outcome = outcome
    if journal is None:
        return 0
    account = x.caller.account
    seq = journal.write_close(
        (
            x.event_id,
            x.time_us,
            account.account.id,
            x.caller.user,
            x.project,
            x.caller.key_id,
            x.caller.kind,
            x.source,
            x.route.upstream.name,
            x.route.operation,
            x.route.name,
            x.method,
            x.target.path,
            x.status,
            outcome,
            posted,
            x.bytes_in,
            x.bytes_out,
            now_us - x.time_us,
            (x.answered_us or now_us) - x.sent_us if x.sent_us else 0,
            x.request_id,
            x.book.version,
        )
    )
    account.last_seq = seq
    return seq
