"""The accounts that a scenario plays with: one of each kind of plan."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.state.shared.groups import place_of
from tests.support.configs import Caller, caller

BLOCKED = frozenset({200, 429})
SERVED = frozenset({200})


ROOM = 1_000_000


@dataclass(frozen=True, slots=True)
class Part:
    """A kind of account. `blocks_at`: coins of a period; `rate`: requests of an hour."""

    plan: dict[str, Any]
    expected: frozenset[int] = SERVED
    blocks_at: tuple[tuple[str, int], ...] = ()  # period of the calendar, coins
    rate: int = 0
    is_used_up: bool = False  # the load goes on until it is


def _coins(*allowances: dict[str, Any]) -> dict[str, Any]:
    return {"allowances": {"coins": list(allowances)}}


def _a_month(amount: int, **more: Any) -> dict[str, Any]:
    return {"amount": amount, "per": "month", **more}


def parts(scale: int) -> dict[str, Part]:
    """By name. `scale`: a heavier load is given more, so that it is used up as late."""
    some, more, rate = 15 * scale, 60 * scale, 60 * scale
    capped = {"amount": more, "per": "day"}
    return {
        # One number decides: used up before the trouble, and in the middle of it.
        "tight": Part(_coins(_a_month(some)), BLOCKED, (("month", some),)),
        "later": Part(_coins(_a_month(more)), BLOCKED, (("month", more),)),
        "roomy": Part(_coins(_a_month(ROOM))),
        # Two allowances of one meter: more than one number decides.
        "careful": Part(_coins(_a_month(ROOM), capped), BLOCKED, (("day", more),)),
        "wide": Part(_coins(_a_month(ROOM), {"amount": ROOM, "per": "day"})),
        "lots": Part(_coins(_a_month(ROOM, rollover=100))),
        "over": Part(_coins(_a_month(some, when_exhausted="overage", overage={"price": 1}))),
        "rated": Part({"limits": {"hourly": {"rate": f"{rate}/hour"}}}, BLOCKED, rate=rate),
    }


def hot_parts(scale: int) -> dict[str, Part]:
    """Where so many alike requests come that some is taken ahead of them."""
    soon, later = 700 * scale, 2_000 * scale
    limits = {
        "hourly": {"rate": f"{ROOM}/hour"},
        "even": {"rate": f"{ROOM}/hour", "burst": ROOM, "algorithm": "gcra"},
    }
    return {
        "roomy": Part({**_coins(_a_month(ROOM)), "limits": limits}),
        "soon": Part(_coins(_a_month(soon)), BLOCKED, (("month", soon),), is_used_up=True),
        "later": Part(_coins(_a_month(later)), BLOCKED, (("month", later),), is_used_up=True),
    }


class Cast:
    """A caller for each part; nobody else has used it. They are spread over all groups."""

    def __init__(self, number: int, played: Mapping[str, Part], groups: int) -> None:
        self._parts = played
        self.callers = {
            name: _of_group(f"{name}-{number:03}", (number + 2 * n) % groups, groups)
            for n, name in enumerate(played)
        }

    def items(self) -> list[tuple[str, Caller, Part]]:
        return [(name, who, self._parts[name]) for name, who in self.callers.items()]

    def served(self) -> list[Caller]:
        """Who is answered well to the end."""
        return [who for _, who, part in self.items() if part.expected == SERVED]

    def used_up(self) -> list[Caller]:
        """Who is to be refused before the load ends."""
        return [who for _, who, part in self.items() if part.is_used_up]


def _of_group(name: str, group: int, groups: int) -> Caller:
    """The first of its names that the group has."""
    names = (f"{name}-{n}" for n in itertools.count())
    return caller(next(x for x in names if place_of(x, groups) == group))
