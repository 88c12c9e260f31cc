"""Does a worker hang? Then it keeps its share of the port's connections, and answers none.

A worker that serves tells its figures once a second, so silence is the sign. Who drains says
for how long, and is judged by that alone; who starts is not judged, for nobody reaches it.
Counted in beats of the supervisor: when the machine was frozen or suspended, the supervisor was
as well, and that is one beat. Must not know processes.
"""

from __future__ import annotations

import math

BEAT_S = 1.0
# A healthy worker is silent for no longer than a reload waits for the store: 10 s, of which the
# supervisor bears 15 s (USE_S). Collections of garbage and crowded machines stay far below.
SILENT_BEATS = 20
# Beside the drain: what is left of the journal is shipped, which may take half a minute.
SHIP_S = 40.0


class Pulse:
    """Of one process. `beat` at each beat, and in between what it says."""

    def __init__(self) -> None:
        self._state = "starts"
        self._beats = 0  # since it was heard, or began to drain
        self._drain_s = 0.0

    def serve(self) -> None:
        """It serves from now on."""
        self._state, self._beats = "serves", 0

    def drain(self, drain_s: float) -> None:
        """It has begun to drain, and will have ended within this time."""
        self._state, self._beats, self._drain_s = "drains", 0, drain_s

    def hear(self) -> None:
        """It has said something."""
        if self._state == "serves":
            self._beats = 0

    def beat(self) -> str:
        """Why it hangs, or nothing."""
        self._beats += 1
        if self._state == "serves" and self._beats > SILENT_BEATS:
            return f"it has said nothing for {SILENT_BEATS * BEAT_S:g} s"
        if self._state == "drains" and self._beats > math.ceil(self._drain_s / BEAT_S):
            return f"it has not ended {self._drain_s:g} s after it began to drain"
        return ""

    def __repr__(self) -> str:
        return f"<Pulse {self._state} {self._beats}>"
