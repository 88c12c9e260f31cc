"""Limits of a request that another group counts than its account's.

Those of all callers, of a route or of an address are shared by accounts of many groups.
They are taken first, in all groups at once, and given back when one of them, or the
account, refuses. So such a limit is never exceeded; for one round trip it may count a
request that something else refuses. Must not know where groups are kept.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from gateway.core.refusals import Refusal
from gateway.state.base import Ask
from gateway.state.refusal import counter_row
from gateway.state.shared.limits import give_back, let_go, refusal_by, tell_counters
from gateway.state.shared.link import StateUnavailable
from gateway.state.shared.places import Place


class Apart:
    """What one request takes in other groups, and gives back."""

    def __init__(self, ask: Ask, places: list[Place]) -> None:
        self.places = places
        self._id = ask.event_id
        self._now_us = ask.time_us
        self._taken: list[Place] = []
        self._local: list[Place] = []  # taken here only, for the server is away

    @property
    def has_gauges(self) -> bool:
        return any(place.gauges for place in self._taken)

    async def take(self, allows: bool) -> bool:
        """Whether all fit; what was taken is to be given back if not, or if it raises.

        `allows`: what is known here decides where a server is away; else StateUnavailable.
        """
        if len(self.places) == 1:
            return await self._take(self.places[0], allows)
        takes = [self._take(place, allows) for place in self.places]
        answers = await asyncio.gather(*takes, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return all(answers)

    async def _take(self, place: Place, allows: bool) -> bool:
        try:
            reply = await place.take(self._id)
        except StateUnavailable:
            if not allows:
                raise
            return self._take_here(place)
        tell_counters(place.counters, reply[1])
        if reply[0]:
            self._taken.append(place)
        return bool(reply[0])

    def _take_here(self, place: Place) -> bool:
        if not all([counter.fits(self._now_us) for counter in place.counters]):
            return False
        for counter in place.counters:
            counter.take(self._now_us)
        self._local.append(place)
        return True

    def give_back(self) -> None:
        """Everything that was taken: something else refused."""
        for place in self._taken:
            place.untake(self._id)
        for place in (*self._taken, *self._local):
            for counter in place.counters:
                give_back(counter)
        self._taken, self._local = [], []

    def let_go(self) -> None:
        """The request has ended: it is in flight no more."""
        for place in self._taken:
            gauges = place.gauges
            if gauges:
                let_go(place.group.link, self._id, gauges)

    def renew(self) -> None:
        """The request goes on."""
        for place in self._taken:
            gauges = place.gauges
            if gauges:
                key = f"{place.group.tag}a:"  # the hold itself is in another group
                lease_us, named = place.group.lease_us, [(gauge, self._id) for gauge in gauges]
                place.group.link.tell(["renew", key, "", lease_us, named], (key, *gauges))

    def refusal(self) -> Refusal:
        """By these limits, when they did not fit."""
        counters = [counter for place in self.places for counter in place.counters]
        return refusal_by(counters, self._now_us)

    def told_in(self, refusal: Refusal) -> Refusal:
        """The account's refusal, which tells these limits, too."""
        rows = [counter_row(c, self._now_us) for place in self.places for c in place.counters]
        untold = [replace(row, refused=False) for row in rows]
        return replace(refusal, limits=(*untold, *refusal.limits))
