"""A request that goes on, and what it has in the shared state with it.

Question: what of it is put off before it runs out? That is decided as the step is sent,
for the request may have ended since, and that may go in a step before this one.
"""

from __future__ import annotations

from collections.abc import Callable

import orjson

from gateway.state.base import Hold
from gateway.state.shared.document import stake_field
from gateway.state.shared.link import Reply, StateUnavailable
from gateway.state.shared.stake import NO_DOCUMENT, StakeHold


class Renewal:
    """Of one hold, or of the stake that it is in. Implements link.Step."""

    __slots__ = ("keys", "_hold", "_hold_id", "_lease_us", "_lost")

    is_asked = False

    def __init__(
        self, hold: Hold, key: str, gauges: list[str], lease_us: int, lost: Callable[[], object]
    ) -> None:
        """`key` is of the document, `gauges` of limits of requests in flight.

        `lost` is called where the document does not have it: it may wait for the document to
        begin, and that runs out, too.
        """
        assert hold.ask is not None, "it is open"
        self.keys = (key, *gauges)
        self._hold = hold
        self._hold_id = hold.ask.event_id
        self._lease_us = lease_us
        self._lost = lost

    def encode(self) -> bytes:
        hold, hold_id = self._hold, self._hold_id
        key, *gauges = self.keys
        field = f"o|{hold_id}"
        if isinstance(hold, StakeHold):
            field = stake_field(hold.stake.life)
        counted = [(gauge, hold_id) for gauge in gauges] if hold.ask is not None else []
        return orjson.dumps(["renew", key, field, self._lease_us, counted])

    def done(self, reply: Reply) -> None:
        if reply[0] == NO_DOCUMENT and self._hold.ask is not None:
            self._lost()

    def fail(self, error: StateUnavailable) -> None:
        pass
