"""Limits of requests in flight: those that count a request until it ends.

Question: what has this request taken that has to be given back besides what it reserved?
Invariant: what is let go of is not known here any more. Must not know why a request ends.
"""

from __future__ import annotations

from gateway.core.limits import Concurrency
from gateway.state.base import Hold
from gateway.state.shared.apart import Apart

NO_GAUGES: list[str] = []


class InFlight:
    """By hold, where there are any."""

    __slots__ = ("gauges", "apart")

    def __init__(self) -> None:
        self.gauges: dict[str, list[str]] = {}  # keys of those in the account's group
        self.apart: dict[str, Apart] = {}  # what was taken in other groups

    def let_go(self, hold: Hold, hold_id: str) -> list[str]:
        """The request has ended: the keys of what the account's group is yet to be told of."""
        for counter in hold.counters:
            if isinstance(counter, Concurrency):
                counter.in_flight = max(0, counter.in_flight - 1)
        apart = self.apart.pop(hold_id, None)
        if apart is not None:
            apart.let_go()
        return self.gauges.pop(hold_id, NO_GAUGES)

    def renew(self, hold_id: str) -> list[str]:
        """The request goes on: the keys of what the account's group is yet to be told of."""
        apart = self.apart.get(hold_id)
        if apart is not None:
            apart.renew()
        return self.gauges.get(hold_id, NO_GAUGES)
