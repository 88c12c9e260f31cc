"""How far the state is with a journal, and what it may not have of one.

A gateway writes what a request comes to into its journal before it tells the state. So one
that ends in between leaves records that are in the journal, and soon in the store, and
that nobody has told. Invariant: what a mark says is posted, is. Must not know how it is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from gateway.state.base import Posting
from gateway.state.shared.groups import Group, GroupServer, place_of
from gateway.state.shared.link import StateUnavailable, posted_key
from gateway.state.shared.shared import SharedState
from gateway.store.checks import JOURNAL_SPAN
from gateway.store.database import Database

KEPT_S = 172_800  # as what the script keeps (run.lua)

Again = tuple[str, str, int, list[Posting]]  # account, id, record and postings of an event


class Posted:
    """Of all groups. What `reading` opens raises StateUnavailable where the store is away."""

    def __init__(
        self,
        state: SharedState,
        servers: Sequence[GroupServer],
        reading: Callable[[], AbstractContextManager[Database]],
    ) -> None:
        self._state = state
        self._servers = servers
        self._reading = reading
        self._marked = -1  # the own journal's record that all groups have

    async def missing(
        self, journal_id: str, store_seq: int, last_seq: int
    ) -> list[tuple[int, Again]]:
        """By group, what it may not have of a journal that had been shipped to a record before.

        A group that knows of more than the journal's last record is begun anew: the machine
        lost its power before that was on the disk.
        """
        groups = self._state.groups
        numbers = range(len(groups))
        posted = await asyncio.gather(*[self._last(n, journal_id, store_seq) for n in numbers])
        for group, seq in zip(groups, posted, strict=True):
            if seq is not None and seq > last_seq:
                group.link.distrust()
        known = [seq for seq in posted if seq is not None]
        if not known:
            return []
        found = []
        for again in await asyncio.to_thread(self._later, journal_id, min(known)):
            n = place_of(again[0], len(groups))
            before = posted[n]
            if before is not None and again[2] > before:
                found.append((n, again))
        return found

    async def _last(self, n: int, journal_id: str, store_seq: int) -> int | None:
        """The last record that a group is known to have.

        One that was begun anew while the gateway was away has what the store had then. None: it
        cannot be asked, and will be begun from the store.
        """
        group = self._state.groups[n]
        try:
            found = await self._servers[n].command("GET", posted_key(group.tag, journal_id))
        except StateUnavailable:
            group.link.distrust()
            return None
        return store_seq if found is None else int(found)

    def _later(self, journal_id: str, seq: int) -> list[Again]:
        """What the store has of a journal after a record."""
        events: dict[int, Again] = {}
        with self._reading() as database:
            numbers = "SELECT no FROM journals WHERE journal_id = ?"
            (no,) = database.execute(numbers, (journal_id,)).fetchall()[0]
            offset = (no - 1) * JOURNAL_SPAN
            bounds = (offset + seq, offset + JOURNAL_SPAN)
            for row in database.execute(_LATER, bounds).fetchall():
                at, account, event_id, meter, amount, period_us, lot = row
                event = events.setdefault(at, (account, event_id, at - offset, []))
                if meter is not None:
                    event[3].append((meter, amount, period_us, lot))
        return list(events.values())

    async def mark(self, journal_id: str, seq: int) -> None:
        """All is told of the own journal up to a record: little has to be posted again then.

        Some groups have few posts, which would say how far they are. Raises StateUnavailable.
        """
        if seq == self._marked:
            return
        groups = self._state.groups
        behind = self._state.behind()
        done = await asyncio.gather(*[reached(g) for g in groups], return_exceptions=True)
        behind |= self._state.behind()
        marks = []
        for group, server, answer in zip(groups, self._servers, done, strict=True):
            if not (isinstance(answer, BaseException) or group.tag in behind):
                key = posted_key(group.tag, journal_id)
                marks.append(server.command("SET", key, seq, "EX", KEPT_S))
        await asyncio.gather(*marks)
        if len(marks) == len(groups):
            self._marked = seq


async def reached(group: Group) -> None:
    """Done when all that was told before is. Raises StateUnavailable."""
    key = f"{group.tag}a:"
    await group.link.ask(["look", key], (key,))


_LATER = """
    SELECT e.seq, e.account, e.id, c.meter, c.amount, c.period_us, c.lot FROM events e
    LEFT JOIN charges c ON c.seq = e.seq AND c.time_us = e.time_us
    WHERE e.seq > ? AND e.seq < ? ORDER BY e.seq, c.n
"""
