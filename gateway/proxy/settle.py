"""Settle: what a request was charged, said once, on every way out.

Who reserves, settles: `settle` is reached by every admitted request, whatever
became of it. Rules: a request that the backend received whole is charged, also
when the client went away meanwhile; what the backend did not answer whole is not, except
for what a measured price found delivered or reported until then. The event is
in the journal when this returns, so the caller may send the last byte.
"""

from __future__ import annotations

from typing import Protocol

from gateway.core.outcomes import CHARGED, FREE, UNCHARGED
from gateway.core.pricing import Charges, Counted
from gateway.proxy.exchange import Exchange
from gateway.state.base import Posting, Settlement
from gateway.state.memory import MemoryState

NOTHING = Settlement(())


class CloseLog(Protocol):
    """The part of the journal that settling needs."""

    def write_close(self, fields: tuple[object, ...]) -> int: ...


# Outcome, whether it is charged, charges and counts: before it is known from which lots.
Due = tuple[str, bool, Charges, tuple[Counted, ...]]


def settle(x: Exchange, outcome: str, state: MemoryState, journal: CloseLog, now_us: int) -> int:
    """Write the event, then post or release the hold; the journal's sequence number.

    Raises JournalError when the event cannot be written: nothing is charged then.
    """
    hold = x.hold
    assert hold is not None and hold.is_open, "settled once, and only when admitted"
    due = due_of(x, outcome, now_us)
    settlement = state.settlement(hold, due[2], due[3]) if due[1] else NOTHING
    return finish(x, due, settlement, state, journal, now_us)


def due_of(x: Exchange, outcome: str, now_us: int) -> Due:
    """What an outcome comes to, by the price; asked once."""
    is_charged = outcome not in UNCHARGED
    if x.measure is not None and (is_charged or x.head_sent):
        charges, counted, name = x.measure.settle(now_us, is_broken=not is_charged)
        return name or outcome, True, charges, counted
    return outcome, is_charged, x.charges, x.counted


def finish(
    x: Exchange,
    due: Due,
    settlement: Settlement,
    state: MemoryState,
    journal: CloseLog,
    now_us: int,
) -> int:
    """Write the event of what was worked out, and post it. Raises JournalError."""
    hold, outcome = x.hold, due[0]
    assert hold is not None, "it was admitted"
    if outcome == CHARGED and not settlement.postings:
        outcome = FREE
    x.outcome, x.postings = outcome, settlement.postings
    try:
        seq = _write(x, outcome, settlement.postings, journal, now_us)
    except BaseException:
        # What is not written down was not charged; the caller breaks the answer off.
        state.release(hold)
        raise
    if due[1]:
        state.settle(hold, settlement, seq)
    else:
        state.release(hold)
    hold.account.last_seq = seq
    return seq


def _write(
    x: Exchange,
    outcome: str,
    posted: tuple[Posting, ...],
    journal: CloseLog,
    now_us: int,
) -> int:
    """The event, fields in the order of core.events.Event."""
    account = x.caller.account
    return journal.write_close(
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
