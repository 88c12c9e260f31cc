"""The line to the shared state: what comes late, and what could not be kept."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from gateway.state.shared import link as link_module
from gateway.state.shared.link import Link, Reply, StateUnavailable
from gateway.state.shared.servers import RedisServer
from tests.support.valkey import server

TAG = "t-link{0}"
LIMIT = ["w", f"{TAG}l", 3_600_000_000, 100]


async def test_a_copy_of_an_earlier_batch_does_nothing_more() -> None:
    """A network delivers what it was given, also when nobody waits for it any more."""
    redis = RedisServer(server().url, 5.0)
    heads = (f"{TAG}epoch", f"{TAG}reply", f"{TAG}posted", LIMIT[1])
    await redis.command("SET", heads[0], "1")
    body = orjson.dumps([["limits", "a", [LIMIT]]])
    first = await redis.run(heads, ("1", 1, body, 0, 0))
    assert await redis.run(heads, ("1", 1, body, 0, 0)) == first
    second = await redis.run(heads, ("1", 2, body, 0, 0))
    assert second[1][0][1][1] == 2
    assert await redis.run(heads, ("1", 1, body, 0, 0)) == [-1, b"1"]
    third = await redis.run(heads, ("1", 3, body, 0, 0))
    assert third[1][0][1][1] == 3
    await redis.close()


class Away:
    """A server that is away until it is told to be back. A link.Server."""

    def __init__(self) -> None:
        self.is_back = False

    async def run(self, keys: Sequence[str], arguments: Sequence[str | int | bytes]) -> Reply:
        await asyncio.sleep(0)
        if not self.is_back:
            raise StateUnavailable("away")
        body: Any = arguments[2]
        return [1, [[1] for _ in orjson.loads(body)]]


async def test_what_could_not_be_kept_is_made_up_from_the_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link_module, "KEPT_MAX", 3)
    begun = []

    async def epoch(found: str) -> str:
        begun.append(found)
        return "2"

    away = Away()
    link = Link(away, TAG, "w", epoch, 1)
    link.start()
    with pytest.raises(StateUnavailable):
        await link.ask(["look", "k"], ("k",))
    for _ in range(5):
        link.tell(["look", "k"], ("k",))
    assert (link.dropped, begun) == (2, [])
    away.is_back = True
    async with asyncio.timeout(20):
        while link.waiting:
            await asyncio.sleep(0.01)
    assert begun == [""]
    await link.stop(0)


class Counting(Away):
    """Counts the steps of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.is_back = True
        self.calls: list[int] = []

    async def run(self, keys: Sequence[str], arguments: Sequence[str | int | bytes]) -> Reply:
        reply = await super().run(keys, arguments)
        self.calls.append(len(reply[1]))
        return reply


@pytest.mark.parametrize(("gather_s", "is_one"), [(3600.0, True), (0.0, False)])
async def test_steps_gather_while_each_turn_brings_more(
    monkeypatch: pytest.MonkeyPatch, gather_s: float, is_one: bool
) -> None:
    """And no longer: an hour is not waited for."""
    monkeypatch.setattr(link_module, "GATHER_S", gather_s)

    async def epoch(found: str) -> str:
        return "1"

    counting = Counting()
    link = Link(counting, TAG, "w", epoch, 1)
    link.start()
    await link.ask(["look", "k"], ("k",))
    for _ in range(60):
        link.tell(["look", "k"], ("k",))
        await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await link.ask(["look", "k"], ("k",))
    assert sum(counting.calls) == 62
    assert (len(counting.calls) == 2) == is_one
    await link.stop(0)
