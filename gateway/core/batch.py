"""What the journal hands to the store: a run of records, in sequence.

A batch has every record from `first_seq` to `last_seq`, some hundred of them: its rows
are dropped before the next is read, or the garbage collector would stop the event loop to
look at them. An event row is a plain list, not an object, because one is made for every
request: `[kind, seq, label, id, time_us, source, path, status, outcome, charges, bytes_in,
bytes_out, duration_us, upstream_us, request_id]`, with charges a list of `[meter, amount,
period_us]`, or `[meter, amount, period_us, lot]` where a lot of its own paid, and
request_id "" where it equals the id.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gateway.core.events import Event, Posted, Refused

EventRow = list[Any]


class LabelValues(NamedTuple):
    """The texts that very many events have in common; a store keeps them once."""

    account: str
    user: str
    project: str
    key_id: str
    caller: str
    service: str
    operation: str
    route: str
    method: str
    book: str


class Label:
    """Label values with the store's number for them, 0 while it has none."""

    __slots__ = ("account", "id", "values")

    def __init__(self, values: LabelValues) -> None:
        self.values = values
        self.account = values.account
        self.id = 0

    def __repr__(self) -> str:
        return f"<Label {self.id} {'/'.join(self.values)}>"


@dataclass(slots=True)
class Batch:
    first_seq: int
    last_seq: int
    events: list[EventRow] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    opened: int = 0  # open records among them; they change nothing in the store


def event_of(row: EventRow) -> Event:
    """The event that a row stands for."""
    v: LabelValues = row[2].values
    charges = tuple(Posted(*charge) for charge in row[9])
    return Event(
        *(row[3], row[4], v.account, v.user, v.project, v.key_id, v.caller, row[5]),
        *(v.service, v.operation, v.route, v.method, row[6], row[7], row[8], charges),
        *(row[10], row[11], row[12], row[13], row[14] or row[3], v.book),
    )
