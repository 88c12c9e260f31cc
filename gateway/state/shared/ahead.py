"""What a process takes ahead of requests, so that the next ones need not wait for the server.

Question: how many more requests of a form may begin at once? While many come, a call of the
script takes for as many as came since the one before, too, and they find it here. It is taken
where plenty is left only (run.lua: take), is held in the stake as all else, and what nobody
used in time is given back. Invariants: what is here was taken for a request that had been let
in then, and is used in the period, and in the window of each rate limit, that it was taken in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.core.limits import Counter, FixedWindow

if TYPE_CHECKING:
    from gateway.state.shared.stake import Form

AHEAD_US = 20_000  # it is used within that time, or given back; run.lua has it as AHEAD_US, too
LATE_US = 40_000  # it is given back so much later, unless this process was held up
AHEAD_MIN = 8  # requests since the call before; where fewer come, nothing is taken ahead
AHEAD_MAX = 128  # requests of a form


class Ahead:
    """Of one form."""

    __slots__ = ("left", "until_us", "until_s", "ends", "late_us", "came")

    def __init__(self) -> None:
        self.left = 0  # requests that may begin
        self.until_us = 0  # by the clock of requests
        self.until_s = 0.0  # the same by the loop's
        self.ends: list[int] = []  # of the windows that it was taken in
        self.late_us = 0  # from then on token buckets fill up again, whatever is given back
        self.came = 0  # requests since the call before

    def want(self, asking: int) -> int:
        """How many to take, of a call with so many that wait."""
        came, self.came = self.came + asking, 0
        if came < AHEAD_MIN:
            return 0
        return max(0, min(came + came // 2, AHEAD_MAX) - self.left)

    def is_low(self) -> bool:
        """Whether more should be on its way."""
        return self.left <= self.came

    def add(self, count: int, until_us: int, ends: list[int]) -> None:
        self.left += count
        self.until_s = asyncio.get_running_loop().time() + AHEAD_US / 1_000_000
        self.until_us = min([until_us, *ends])
        self.late_us = until_us + LATE_US
        self.ends = ends

    def drop(self) -> int:
        """Nobody begins with what is left."""
        left, self.left = self.left, 0
        return left


def ends_of(counters: Sequence[Counter]) -> list[int]:
    """Of the windows that stand as the last reply said."""
    return [counter.end_us for counter in counters if isinstance(counter, FixedWindow)]


class Watch:
    """Gives back what nobody used."""

    __slots__ = ("_forms", "_timer")

    def __init__(self) -> None:
        self._forms: set[Form] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, form: Form) -> None:
        self._forms.add(form)
        if self._timer is None:
            self._start()

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(AHEAD_US / 1_000_000, self._look)

    def _look(self) -> None:
        now_s = asyncio.get_running_loop().time()
        for form in list(self._forms):
            if form.ahead.left and form.ahead.until_s <= now_s:
                form.shared.give_back(form, form.shared.stake)
            if not form.ahead.left:
                self._forms.discard(form)
        self._timer = None
        if self._forms:
            self._start()
