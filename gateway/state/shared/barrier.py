"""The epochs of one group, and the barrier before a new one.

Question: is what the server knows what was told to it? An epoch names the server's
process. Where there is none (emptied) or that of another (restarted, or in the place of
one that failed; perhaps with less), every gateway that is there ships its journal and
tells its open holds; then one of them takes the documents away and begins the epoch.
Each group has a barrier of its own, so that one server that is lost is the loss of its
groups only. Must not know what a document is.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterable
from typing import Protocol

from gateway.state.shared.groups import Agreement, GroupServer, Members

LOOK_S = 0.075  # between two looks at whether others are done
BEAT_S = 0.3
WAITING_S = 3600  # for a document to begin; what waits has its lease from then on
REBUILD_MS = 10_000  # for all gateways to tell what they know; half of it is waited


# Whose it is to begin anew, and from now on nothing is done; false where it is another's.
_CLAIM = """
local found = redis.call('GET', KEYS[1])
if found and found ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('DEL', KEYS[2])
return 1
"""
_IS_MINE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""
_TOLD = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('SADD', KEYS[2], ARGV[2])
redis.call('EXPIRE', KEYS[2], 60)
return 1
"""
_BEGIN = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[2], ARGV[1])
redis.call('DEL', KEYS[1])
return 1
"""


class Here(Protocol):
    """What is asked of this gateway (gateway/fleet/fleet.py)."""

    async def ship(self) -> None:
        """Done when the store has all that is closed here. Raises StateUnavailable."""
        ...

    async def waiting(self, tag: str, epoch: str) -> Iterable[tuple[str, str]]:
        """Open holds of a group, by the key where they wait for a document of an epoch.

        None is on its way from the server, which lets in no more.
        """
        ...

    def begun(self, tag: str, epoch: str, without: list[str]) -> None:
        """An epoch was begun here; `without` are gateways that did not answer."""
        ...


class Barrier:
    """Of one group. Implements link.Link's `renew_epoch` by `epoch`."""

    def __init__(
        self, server: GroupServer, tag: str, journal_id: str, here: Here, agreement: Agreement
    ) -> None:
        self._server = server
        self._tag = tag
        self._journal_id = journal_id
        self._here = here
        self._agreement = agreement
        self._members = Members(server, tag, journal_id)
        self._told = ""  # the last beginning that has heard in time what this gateway knows
        self._telling = asyncio.Lock()  # the line and the beat may both be about to
        self._known = ""  # the one that was found last
        self._mine = ""  # the one that it began itself, and has not ended yet

    async def epoch(self, found: str) -> str:
        """The server's; or a new one, begun when all gateways have told what they know."""
        await self._agreement.reach(lost="" if found else self._tag)
        process = await self._server.process()
        if self._is_strange(found):
            found = ""
        while not found.startswith(f"{process}."):
            if await self._is_mine_to_begin(process):
                await self._begin(self._mine)
            await asyncio.sleep(LOOK_S)
            found = (await self._server.command("GET", f"{self._tag}epoch") or b"").decode()
            if self._is_strange(found):
                found = ""
        self._known = found
        self._mine = ""  # others have told it what they knew then, and that was long ago
        return found

    async def _is_mine_to_begin(self, process: str) -> bool:
        """One does it at a time; who was kept from ending it goes on."""
        if not self._mine.startswith(f"{process}."):
            self._mine = f"{process}.{secrets.token_hex(8)}"
        keys = (f"{self._tag}rebuild", f"{self._tag}epoch")
        return bool(await self._server.script(_CLAIM, keys, (self._mine, REBUILD_MS)))

    async def _begin(self, mine: str) -> None:
        missing = await self._gather(mine)
        keys = (f"{self._tag}rebuild", f"{self._tag}epoch")
        if not await self._server.script(_IS_MINE, keys, (mine, REBUILD_MS)):
            return  # it took too long, and another gateway begins, or has begun
        await self._server.remove(f"{self._tag}a:*")
        self._mine = ""  # no epoch has the name of an earlier one
        if await self._server.script(_BEGIN, keys, (mine,)):
            self._here.begun(self._tag, mine, missing)

    async def _gather(self, rebuild: str) -> list[str]:
        """Wait for every gateway that is there; those that did not answer."""
        await self._tell(rebuild)
        began_s = time.monotonic()
        told: set[str] = set()
        while time.monotonic() - began_s < REBUILD_MS / 1000 / 2:
            await asyncio.sleep(LOOK_S)
            names = await self._server.command("SMEMBERS", f"{self._tag}told:{rebuild}")
            told = {name.decode() for name in names}
            is_heard = time.monotonic() - began_s > 2 * BEAT_S
            if is_heard and await self._members.there() <= told:
                return []
        return sorted(await self._members.there() - told)

    async def _tell(self, rebuild: str) -> None:
        """What is closed here goes to the store, and what is open waits for its account."""
        async with self._telling:
            if rebuild == self._told:
                return
            # First, so that what ends meanwhile is shipped, or held until that is told.
            held = await self._here.waiting(self._tag, rebuild)
            await self._here.ship()
            for key, holds in held:
                await self._server.command("HSET", key, self._journal_id, holds)
                await self._server.command("EXPIRE", key, WAITING_S)
            keys = (f"{self._tag}rebuild", f"{self._tag}told:{rebuild}")
            if await self._server.script(_TOLD, keys, (rebuild, self._journal_id)):
                self._told = rebuild
            # Else it has begun without this gateway, which is strange to it then.

    async def beat(self) -> bool:
        """Say that this gateway is there, and answer to one that begins anew.

        False where one has begun without this gateway.
        """
        rebuild, epoch = await self._members.beat()
        if rebuild:
            await self._tell(rebuild)
        return not self._is_strange(epoch)

    def _is_strange(self, epoch: str) -> bool:
        """Whether it was begun without what is here: told, posted, and not shipped."""
        return bool(epoch and self._known) and epoch not in (self._known, self._told)

    async def leave(self) -> None:
        """Nobody has to wait for this gateway any more."""
        await self._members.leave()
