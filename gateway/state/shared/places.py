"""Where the limits of a request are counted.

An account's own are in its group, where one call of the script takes them with all else.
Those of all callers, of a route or of an address are shared by accounts of many groups,
and are in a group that their key says (apart.py takes them).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gateway.core.limits import Counter, RateLimit
from gateway.state.base import Ask
from gateway.state.memory import subject_of
from gateway.state.shared.groups import Group, place_of
from gateway.state.shared.limits import as_taken, limit_body, tell_counters
from gateway.state.shared.link import Reply


def is_of_account(limit: RateLimit, ask: Ask) -> bool:
    """Whether nobody but this account's requests count for a limit."""
    if limit.subject == "key":
        return bool(ask.key_id)  # without one it is the address that counts
    return limit.subject in ("account", "user", "project")


class Place:
    """A group, and a request's limits that are counted there."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.counters: list[Counter] = []
        self.bodies: list[list[Any]] = []  # the limits as the script takes them
        self.keys: list[str] = []
        self._ends: list[int] = []  # of windows, as they were taken

    def add(self, counter: Counter, ask: Ask) -> None:
        limit = counter.limit
        # A reload may count it in another way, whose figures are written differently.
        kind = limit.algorithm[0]
        key = f"{self.group.tag}l{kind}:{limit.id}:{subject_of(limit, ask)}"
        self.counters.append(counter)
        self.bodies.append(limit_body(limit, key, self.group.lease_us))
        self.keys.append(key)

    @property
    def gauges(self) -> list[str]:
        """Keys of limits of requests in flight."""
        return [body[1] for body in self.bodies if body[0] == "c"]

    async def take(self, id_: str, key: str = "") -> Reply:
        """Whether all fit and are taken, what they stand at, and whether somebody may give back
        what was taken ahead for the account whose document has this key. Raises StateUnavailable.

        They are given back where nobody waits for that any more.
        """

        def late(reply: Reply) -> None:
            if reply[0]:
                self._ends = self._ends_in(reply)
                self.untake(id_)

        keys = (*self.keys, key) if key else tuple(self.keys)
        reply = await self.group.link.ask(["limits", id_, self.bodies, key], keys, late)
        self._ends = self._ends_in(reply)
        return reply

    def _ends_in(self, reply: Reply) -> list[int]:
        return [reply[1][2 * n] for n, body in enumerate(self.bodies) if body[0] == "w"]

    async def look(self) -> None:
        """Nothing is taken: what is known here stands as it does there. Raises StateUnavailable."""
        reply = await self.group.link.ask(["stand", self.bodies], tuple(self.keys))
        tell_counters(self.counters, reply[1])

    def untake(self, id_: str) -> None:
        if self.bodies:
            bodies = as_taken(self.bodies, self._ends)
            self.group.link.tell(["untake", [id_], bodies], tuple(self.keys))


class Places:
    """Of all limits. `counter` gives what is known here of one that counts a request."""

    def __init__(
        self, groups: Sequence[Group], counter: Callable[[RateLimit, Ask], Counter]
    ) -> None:
        self._groups = groups
        self._counter = counter

    def group_of(self, name: str) -> Group:
        """Of an account, or of a limit that several accounts share."""
        return self._groups[place_of(name, len(self._groups))]

    def counters(self, ask: Ask) -> list[Counter]:
        """Of all limits of a request, in their order."""
        return [self._counter(limit, ask) for limit in ask.limits]

    def all(
        self, limits: Sequence[RateLimit], ask: Ask, without: Group | None = None
    ) -> list[Place]:
        """Where limits are counted, but for one group."""
        own = self.group_of(ask.account.account.id)
        places: dict[str, Place] = {}
        for limit in limits:
            group = self._group(limit, ask, own)
            if group is not without:
                place = places.setdefault(group.tag, Place(group))
                place.add(self._counter(limit, ask), ask)
        return list(places.values())

    def own(self, ask: Ask) -> Place:
        """The account's group, with the limits that are counted there."""
        own = Place(self.group_of(ask.account.account.id))
        for limit in ask.limits:
            if self._group(limit, ask, own.group) is own.group:
                own.add(self._counter(limit, ask), ask)
        return own

    def apart(self, ask: Ask) -> list[Place]:
        """Other groups that count limits of this request."""
        own = self.group_of(ask.account.account.id)
        return self.all(ask.limits, ask, without=own)

    def _group(self, limit: RateLimit, ask: Ask, own: Group) -> Group:
        if len(self._groups) == 1 or is_of_account(limit, ask):
            return own
        return self.group_of(f"{limit.id}:{subject_of(limit, ask)}")
