"""Which groups of the shared state are away, and since when? Said once when one goes, and comes.

Looked at a few times a second, so a call that was tried again and answered is no absence.
Must not know why a group is away, or what is decided meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from gateway.state.shared.groups import Group

LOOK_S = 0.25


class Absences:
    """Of the groups of one gateway, or worker, as its own calls find them."""

    def __init__(
        self,
        groups: Sequence[Group],
        when_away: str,
        log: Callable[..., object],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._groups = groups
        self._when_away = when_away
        self._log = log
        self._clock_s = clock_s
        self._since_s: dict[str, float] = {}  # by the tag of the group

    async def watch(self) -> None:
        """Look again and again, until it is cancelled."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """Say what has changed since the last time."""
        for group in self._groups:
            tag, failure = group.tag, group.link.failure
            if failure and tag not in self._since_s:
                self._since_s[tag] = self._clock_s()
                facts = {"tag": tag, "error": failure, "when_away": self._when_away}
                self._log("state_away", level="warning", **facts)
            elif not failure and tag in self._since_s:
                seconds = round(self._clock_s() - self._since_s.pop(tag), 1)
                self._log("state_back", tag=tag, seconds=seconds)
