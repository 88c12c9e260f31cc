"""The node of a Cluster that has a group's slot.

Question: to whom does this group's call go? The nodes say who has which slot; who is
wrongly asked says who has this one. Invariant: `run` never goes to another node, or to
another process, than its last call without having raised once, so that the line looks at
the epoch first. Must not know what a group is for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from redis.crc import key_slot

from gateway.core.state_url import StateUrl, read_state_url
from gateway.state.shared.groups import GroupServer
from gateway.state.shared.link import EPOCH_WAIT_S, Reply, Restarted, StateUnavailable
from gateway.state.shared.servers import (
    Elsewhere,
    Moving,
    RedisServer,
)

Address = tuple[str, int]
T = TypeVar("T")

MAP_AGE_S = 0.1  # all groups of a node that fails ask at once; one answer is enough
MOVING_S = 0.05  # between two tries while a slot is on its way


class ClusterMap:
    """Which node has a slot, as some node said last."""

    def __init__(self, url: StateUrl, timeout_s: float) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._ranges: list[tuple[int, int, Address]] = []
        self._asked_s = float("-inf")
        self._asking = asyncio.Lock()
        self._turn = 0

    def server_at(self, address: Address) -> RedisServer:
        return RedisServer(self._url.at(*address), self._timeout_s)

    async def node_of(self, slot: int, is_doubted: bool) -> Address:
        """Raises StateUnavailable. `is_doubted`: what is known may be old."""
        async with self._asking:
            age_s = time.monotonic() - self._asked_s
            if not self._ranges or (is_doubted and age_s > MAP_AGE_S):
                self._ranges = await self._ask()
                self._asked_s = time.monotonic()
        for first, last, address in self._ranges:
            if first <= slot <= last:
                return address
        raise StateUnavailable(f"no node of the Cluster has slot {slot}")

    async def _ask(self) -> list[tuple[int, int, Address]]:
        """Of any node, another one first each time."""
        known = list(dict.fromkeys([*[node for *_, node in self._ranges], *self._url.hosts]))
        self._turn = turn = (self._turn + 1) % len(known)
        failures = []
        for address in known[turn:] + known[:turn]:
            server = self.server_at(address)
            try:
                rows = await server.command("CLUSTER", "SLOTS")
                return [(row[0], row[1], _address(row[2], address)) for row in rows]
            except StateUnavailable as error:
                failures.append(str(error))
            finally:
                await server.close()
        raise StateUnavailable(f"no node of the Cluster answers: {'; '.join(failures)}")


def _address(node: Sequence[Any], asked: Address) -> Address:
    """A node that does not know its own address is where it was asked."""
    host = node[0].decode() if node[0] else ""
    return (host if host not in ("", "?") else asked[0]), node[1]


class ClusterServer:
    """Implements groups.GroupServer for the group with a tag."""

    def __init__(self, nodes: ClusterMap, tag: str) -> None:
        self._nodes = nodes
        self._slot = key_slot(tag.encode())
        self._at: Address | None = None
        self._node: RedisServer | None = None
        self._ran_on: RedisServer | None = None
        self._is_doubted = False
        self._finding = asyncio.Lock()

    async def run(self, keys: Sequence[str], arguments: Sequence[str | int | bytes]) -> Reply:
        try:
            return await self._call(lambda node: self._run(node, keys, arguments))
        except StateUnavailable:
            self._ran_on = None  # whoever runs this knows that it may be another node next
            raise

    async def _run(
        self, node: RedisServer, keys: Sequence[str], arguments: Sequence[str | int | bytes]
    ) -> Reply:
        if self._ran_on not in (None, node):
            raise Restarted("another node answers now")
        self._ran_on = node
        return await node.run(keys, arguments)

    async def script(self, text: str, keys: Sequence[str], arguments: Sequence[str | int]) -> Any:
        return await self._call(lambda node: node.script(text, keys, arguments))

    async def command(self, *words: str | int) -> Any:
        return await self._call(lambda node: node.command(*words))

    async def process(self) -> str:
        return await self._call(lambda node: node.process())

    async def remove(self, pattern: str) -> None:
        await self._call(lambda node: node.remove(pattern))

    async def close(self) -> None:
        if self._node is not None:
            await self._node.close()

    async def _call(self, work: Callable[[RedisServer], Awaitable[T]]) -> T:
        """While the slot is on its way it is waited for: nothing of it was done."""
        give_up_s = time.monotonic() + EPOCH_WAIT_S
        while True:
            node = await self._find()
            try:
                return await work(node)
            except Moving:
                if time.monotonic() > give_up_s:
                    raise
                await asyncio.sleep(MOVING_S)
            except Elsewhere as error:
                await self._go_to((error.address[0] or self._host, error.address[1]))
                raise
            except Restarted:
                raise
            except StateUnavailable:
                self._is_doubted = True
                raise

    @property
    def _host(self) -> str:
        return self._at[0] if self._at is not None else ""

    async def _find(self) -> RedisServer:
        async with self._finding:
            if self._node is None or self._is_doubted:
                address = await self._nodes.node_of(self._slot, self._is_doubted)
                self._is_doubted = False
                await self._use(address)
            assert self._node is not None
            return self._node

    async def _go_to(self, address: Address) -> None:
        async with self._finding:
            self._is_doubted = False
            await self._use(address)

    async def _use(self, address: Address) -> None:
        if address != self._at:
            before, self._at = self._node, address
            self._node = self._nodes.server_at(address)
            if before is not None:
                await before.close()


def open_servers(text: str, timeout_s: float, tags: Sequence[str]) -> list[GroupServer]:
    """A server for each group, by the URL of all. Nothing is connected to yet."""
    url = read_state_url(text)
    if url.kind != "cluster":
        return [RedisServer(text, timeout_s) for _ in tags]
    nodes = ClusterMap(url, timeout_s)
    return [ClusterServer(nodes, tag) for tag in tags]
