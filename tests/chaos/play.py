"""How a scenario is played: a load, a trouble under it, its end, and the same checks for all."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from tests.chaos.checks import Excuse, after
from tests.chaos.load import Call, Load
from tests.chaos.scene import Scene

NO_EXCUSE = Excuse()


@dataclass(frozen=True, slots=True)
class Form:
    """How long a trouble lasts, how heavy the load is, and how often it is played."""

    trouble_s: float
    rounds: int
    connections: int  # of each account at each gateway
    pace_s: float  # from a request of a connection to its next
    scale: int  # of what accounts are given


SHORT = Form(trouble_s=1.0, rounds=1, connections=1, pace_s=0.08, scale=1)
LONG = Form(trouble_s=8.0, rounds=3, connections=3, pace_s=0.06, scale=10)


class Row(NamedTuple):
    """A line of the table that the run ends with."""

    trouble: str
    lasted_s: float
    requests: int
    unusual: int  # answered otherwise than usual, or late
    slowest_s: float
    well_after_s: float  # from its end to the last unusual answer
    shared_after_s: float  # from its end until all gateways were seen to use the shared state


class Chaos:
    """What a scenario is given. `rows` is the run's table."""

    def __init__(self, form: Form, rows: list[Row]) -> None:
        self.form = form
        self._rows = rows

    def play(
        self,
        scene: Scene,
        name: str,
        trouble: Callable[[], object],
        heal: Callable[[], object],
        excuse: Excuse = NO_EXCUSE,
        at_least_s: float = 0.0,
        *,
        ends_itself: bool = False,
        restore: Callable[[], object] = lambda: None,
    ) -> list[Call]:
        """All requests; every round is played with accounts that nobody has used.

        `ends_itself`: `heal` waits for the end; `restore`: makes ready for the next trouble.
        """
        calls: list[Call] = []
        for _ in range(self.form.rounds):
            cast = scene.cast()
            load = scene.load(
                cast,
                cast.callers["roomy"].account,
                connections=self.form.connections,
                pace_s=self.form.pace_s,
            )
            try:
                load.wait_well(0)
                scene.wait_shared(cast)
                began_s = time.monotonic()
                trouble()
                if not ends_itself:
                    time.sleep(max(self.form.trouble_s, at_least_s))  # under load
                heal()
                healed_s = time.monotonic()
                load.wait_well(healed_s)
                scene.wait_shared(cast)
                shared_s = time.monotonic()
                load.wait_refused(cast.used_up(), healed_s)
            finally:
                load.stop()
            self._rows.append(_row(name, load, began_s, healed_s, shared_s))
            after(scene, cast, load, excuse)
            restore()
            calls += load.calls
        return calls


def _row(name: str, load: Load, began_s: float, healed_s: float, shared_s: float) -> Row:
    late = [call for call in load.unusual() if call.ended_s >= began_s]
    slowest_s = max([call.took_s for call in load.calls], default=0.0)
    well_s = load.recovered_s(healed_s)
    lasted_s, requests = healed_s - began_s, len(load.calls)
    return Row(name, lasted_s, requests, len(late), slowest_s, well_s, shared_s - healed_s)


def table(rows: list[Row]) -> list[str]:
    """For people: what the troubles did."""
    heads = ("lasted", "requests", "unusual", "slowest", "well", "shared")
    lines = [f"{'trouble':<50}" + "".join([f"{head:>10}" for head in heads])]
    lines += [
        f"{row.trouble:<50}{row.lasted_s:>8.1f} s{row.requests:>10}{row.unusual:>10}"
        f"{row.slowest_s:>8.2f} s{row.well_after_s:>8.2f} s{row.shared_after_s:>8.2f} s"
        for row in rows
    ]
    return lines
