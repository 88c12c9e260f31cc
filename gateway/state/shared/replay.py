"""An account's live figures, made anew from its document.

Question: what does each balance hold, and of what? Open holds are admitted once more, in
the order of their time, on top of what is used now; nothing is refused. So lots that
expire, what is carried over and shares of counters come about as they did in the process
that admitted. Holds of this process stay the objects that their requests have.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.core.counting import counts_of, move, taken
from gateway.core.limits import RateLimit
from gateway.state.accounts import Accounts
from gateway.state.base import AccountState, CarefulHold, Hold
from gateway.state.careful import needs_of
from gateway.state.left import bind_all, find, find_cap
from gateway.state.shared.document import Document, Part, Record, StakeRow
from gateway.state.shared.stake import StakeHold


class Asked:
    """A request of another process, as far as its hold tells. A state.base.Ask."""

    key_id = user = route_name = project = source = ""
    limits: tuple[RateLimit, ...] = ()

    def __init__(self, state: AccountState, record: Record) -> None:
        self.account = state
        self.time_us = record.time_us
        self.charges = tuple([(part.meter, part.amount) for part in record.reserved])
        self.counted = record.counted
        self.event_id = record.id
        self.request_id = record.request_id


def replay(
    accounts: Accounts,
    state: AccountState,
    document: Document,
    own: Mapping[str, Hold],
    now_us: int,
) -> None:
    """Leaves what is live as the document has it. Raises what the balance source raises."""
    accounts.begin_anew(state)
    records = [r for r in document.records.values() if not r.posted]
    for life, stake in document.stakes.items():
        records += _of_stake(life, stake, own)
    for record in sorted(records, key=lambda record: (record.time_us, record.id)):
        _admit(accounts, state, record, own.get(record.id), now_us)
    bind_all(accounts, state, now_us)


def _of_stake(life: str, stake: StakeRow, own: Mapping[str, Hold]) -> list[Record]:
    """Holds of this process that are in a stake, and what else is in it, as one for each request.

    Of those of others nobody knows which request holds what; all of it is with the first.
    """
    records = []
    for hold in list(own.values()):
        if isinstance(hold, StakeHold) and hold.stake.life == life and hold.ask is not None:
            parts = tuple(hold.form.parts)
            ask = hold.ask
            records.append(Record(ask.event_id, ask.time_us, life, ask.request_id, parts))
            stake = stake.without(parts)
    left = tuple([Part(*part, amount) for part, amount in stake.parts.items() if amount])
    for n in range(stake.count):
        records.append(Record(f"{life}#{n}", stake.since_us, life, "", left if n == 0 else ()))
    return records


def _admit(
    accounts: Accounts, state: AccountState, record: Record, known: Hold | None, now_us: int
) -> None:
    at_us = record.time_us
    reserved = [
        (find(accounts, state, part.meter, part.span, at_us, now_us), part.amount)
        for part in record.reserved
    ]
    meters = {balance.meter: balance for balance, _ in reserved}
    counts = counts_of(record.counted, lambda name: accounts.balance(state, name, at_us), meters)
    moved = taken(counts)
    caps = [
        (find_cap(accounts, state, part.meter, part.span, part.lot), part.amount)
        for part in record.caps
    ]
    needs, cap_needs = needs_of(reserved, caps, counts, moved)
    for balance, amount in (*needs.items(), *cap_needs.items()):
        balance.hold(amount)
    move(moved)
    hold = known
    if hold is None:
        hold = CarefulHold(state, reserved, [], [], Asked(state, record), counts, caps)
    hold.reserved = reserved
    if isinstance(hold, CarefulHold):
        hold.counts, hold.caps = counts, caps
    state.in_flight += 1
    accounts.holds.add(hold)
