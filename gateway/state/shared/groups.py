"""Groups of accounts: all keys of one are on one server, and one script may use them together.

An account is in the group that its id says. So is a limit of its own; one that several
accounts share is in a group that its key says. All gateways have to have the same number
of groups, or two of them would count one account in two places: it is kept beside them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from zlib import crc32

from gateway.state.shared.link import Link, Reply, StateUnavailable

MEMBER_S = 2  # a gateway that has not been heard for longer is not waited for
GAP_KEPT_S = 10  # who was there before a server was away is waited for so long after
MEMBER_KEPT_S = 3600  # and is no member any more


class GroupServer(Protocol):
    """The server of one group, whichever it is now."""

    async def run(self, keys: Sequence[str], arguments: Sequence[str | int | bytes]) -> Reply:
        """Call the script of steps. Raises StateUnavailable; once, when another process answers."""
        ...

    async def script(self, text: str, keys: Sequence[str], arguments: Sequence[str | int]) -> Any:
        """Call another script. Raises StateUnavailable."""
        ...

    async def command(self, *words: str | int) -> Any:
        """One command of the server. Raises StateUnavailable."""
        ...

    async def process(self) -> str:
        """Which process this is, and whose writes it has. Raises StateUnavailable."""
        ...

    async def remove(self, pattern: str) -> None:
        """All keys of a pattern, a few at a time. Raises StateUnavailable."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Group:
    """`tag` begins all its keys; `link` is the line to its server; a hold that was not renewed
    for `lease_us` is nobody's any more.
    """

    tag: str
    link: Link
    lease_us: int = 15_000_000


def tags(prefix: str, groups: int) -> list[str]:
    """Of all groups; what stands in braces is what a Cluster finds the node by."""
    return [f"{prefix}{{{n}}}" for n in range(groups)]


def place_of(name: str, groups: int) -> int:
    """The number of the group that something is in: the same for every gateway, ever."""
    return crc32(name.encode()) % groups if groups > 1 else 0


class GroupsDiffer(StateUnavailable):
    """Gateways that run have another number of groups."""


class Members:
    """The gateways of one group, by the journals they write."""

    def __init__(self, server: GroupServer, tag: str, journal_id: str) -> None:
        self._server = server
        self._key = f"{tag}members"
        self._rebuild = f"{tag}rebuild"
        self._epoch = f"{tag}epoch"
        self._journal_id = journal_id
        self._beat_s = 0  # the last one, on the server's clock
        self._gap = (0, 0)  # the last one before none was heard, and until when that counts

    async def beat(self) -> tuple[str, str]:
        """Say that this gateway is there; the beginning that others wait for, and the epoch."""
        keys = (self._key, self._rebuild, self._epoch)
        now_s, rebuild, epoch = await self._server.script(_BEAT, keys, (self._journal_id,))
        before_s, self._beat_s = self._beat_s, int(now_s)
        if before_s and self._beat_s - before_s >= MEMBER_S:
            self._gap = (before_s, self._beat_s + GAP_KEPT_S)
        return rebuild.decode(), epoch.decode()

    async def leave(self) -> None:
        """Nobody has to wait for this gateway any more."""
        await self._server.command("HDEL", self._key, self._journal_id)

    async def there(self) -> set[str]:
        """Those that were there just now; the long gone are forgotten.

        While the server was away nobody could say so: then those that were there before.
        """
        command = self._server.command
        beats: dict[bytes, bytes] = await command("HGETALL", self._key)
        now_s = int((await command("TIME"))[0])
        for name, beat in beats.items():
            if int(beat) < now_s - MEMBER_KEPT_S:
                await command("HDEL", self._key, name.decode())
        before_s, until_s = self._gap
        heard_s = before_s if now_s < until_s else self._beat_s
        since_s = min(now_s, heard_s or now_s) - MEMBER_S
        return {name.decode() for name, beat in beats.items() if int(beat) >= since_s}


_BEAT = """
local now = redis.call('TIME')[1]
redis.call('HSET', KEYS[1], ARGV[1], now)
return {now, redis.call('GET', KEYS[2]) or '', redis.call('GET', KEYS[3]) or ''}
"""


class Agreement:
    """On the number of groups; it is kept in the first of them."""

    def __init__(
        self, servers: Sequence[GroupServer], tags: Sequence[str], journal_id: str
    ) -> None:
        self._servers = servers
        self._tags = tags
        self._key = f"{tags[0]}groups"
        self._journal_id = journal_id
        self._members = Members(servers[0], tags[0], journal_id)
        self._reaching = asyncio.Lock()
        self._is_reached = False
        self.state_id = ""  # gateways that run write it again, all of them the same

    async def reach(self, lost: str = "") -> None:
        """Raises GroupsDiffer where others run with another number; StateUnavailable.

        `lost` is the tag of a group that has no epoch: what was agreed on may be lost with it.
        No other group has to wait for the first one's server.
        """
        async with self._reaching:
            if lost == self._tags[0] or not self._is_reached:
                await self._reach()
                self._is_reached = True

    async def _reach(self) -> None:
        command = self._servers[0].command
        await self._members.beat()  # so that one of two that start at once sees the other
        found = await command("GET", self._key)
        if found is not None and int(found) == len(self._tags):
            return
        if found is not None and await self._members.there() - {self._journal_id}:
            await self._members.leave()
            raise self._differ(found)
        if not self._is_reached:
            # Accounts may have been in other groups, and what is left there is old.
            for server, tag in zip(self._servers, self._tags, strict=True):
                await server.command("DEL", f"{tag}epoch")
        await command("SET", self._key, len(self._tags), *(["NX"] if found is None else []))
        found = await command("GET", self._key)
        if int(found) != len(self._tags):
            raise self._differ(found)

    def _differ(self, found: bytes) -> GroupsDiffer:
        return GroupsDiffer(
            f"state.groups: expected {int(found)}, which gateways have that run with this"
            f" state.prefix, found {len(self._tags)}"
        )

    async def repeat(self) -> None:
        """It may have been lost since, and the state's id with it."""
        if self._is_reached:
            await self._servers[0].command("SET", self._key, len(self._tags), "NX")
            if self.state_id:
                await self._servers[0].command("SET", f"{self._tags[0]}id", self.state_id)
