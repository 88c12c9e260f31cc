"""Fewer workers by a reload: no client notices, on a connection that it keeps or a new one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.e2e.many import Scene
from tests.support.configs import Caller
from tests.support.raw import head
from tests.support.stores import use_kind
from tests.support.until import until

KEPT = 16


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    before = use_kind("fleet")
    made = Scene(tmp_path_factory.mktemp("fewer"), 3)
    try:
        made.start()
        yield made
        made.gateway.stop()
    finally:
        made.close()
        use_kind(before)


class Client:
    """Asks on its connection for as long as it may."""

    def __init__(self, scene: Scene, who: Caller) -> None:
        self._port = scene.gateway.port
        self._words = head("GET", "/n/1", who.bearer)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self.is_new = True  # nothing was answered on its connection yet

    async def ask(self) -> str:
        """The status, and ` close` where it was the last answer on this connection."""
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(self._words)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(answer.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await self._reader.readexactly(length)
        self.is_new = False
        if b"\r\nconnection: close\r\n" not in answer:
            return answer[9:12].decode()
        assert await self._reader.read() == b""
        await self.end()
        return answer[9:12].decode() + " close"

    async def end(self) -> None:
        writer, self._reader, self._writer = self._writer, None, None
        self.is_new = True
        if writer is not None:
            writer.close()
            with suppress(ConnectionResetError):  # it is told again here
                await writer.wait_closed()


async def resize(scene: Scene, workers: int) -> None:
    await asyncio.to_thread(scene.resize, workers)


async def test_who_keeps_a_connection_hears_with_the_next_answer_that_it_ends(
    scene: Scene,
) -> None:
    who = scene.newcomer()
    await resize(scene, 3)
    clients = [Client(scene, who) for _ in range(KEPT)]
    assert [await client.ask() for client in clients] == ["200"] * KEPT
    await resize(scene, 1)
    # Long after the others have noticed, and no answer of one that leaves says "not ready".
    for _ in range(10):
        ready = await asyncio.to_thread(scene.gateway.admin, "/readyz")
        assert ready.status == 200, ready.body
        await asyncio.sleep(0.1)
    said = Counter([await client.ask() for client in clients])
    assert set(said) == {"200", "200 close"}, said
    assert {await client.ask() for client in clients} == {"200"}
    await asyncio.to_thread(until, lambda: len(scene.workers.alive()) == 1, what="one worker")
    for client in clients:
        await client.end()
    await asyncio.to_thread(scene.wait_used, who, 3 * KEPT)


async def test_an_idle_connection_ends_in_time_and_another_reload_does_not_wait(
    scene: Scene,
) -> None:
    who = scene.newcomer()
    await resize(scene, 3)
    clients = [Client(scene, who) for _ in range(KEPT)]
    for client in clients:
        await client.ask()
    await resize(scene, 2)
    await resize(scene, 3)  # the third worker's number is free for another one
    assert await asyncio.to_thread(scene.race, who, 30) == {200: 30}
    for client in clients:
        await client.end()
    await asyncio.to_thread(scene.wait_used, who, KEPT + 30)


async def test_requests_without_a_pause_all_get_their_answer(scene: Scene) -> None:
    who = scene.newcomer()
    seen: Counter[str] = Counter()
    is_over = asyncio.Event()

    async def ask_on(keeps: bool) -> None:
        client = Client(scene, who)
        while not is_over.is_set():
            try:
                seen[await client.ask()] += 1
            except ConnectionResetError:
                # A handshake that the kernel ends in the very moment in which a socket is closed.
                assert client.is_new
                seen["reset"] += 1
                await client.end()
            if keeps:
                await asyncio.sleep(0.002)  # so that it is idle now and then
            else:
                await client.end()
        await client.end()

    asking = [asyncio.ensure_future(ask_on(n % 2 == 0)) for n in range(24)]
    for workers in (1, 3, 1, 2, 1):
        await resize(scene, workers)
    is_over.set()
    await asyncio.gather(*asking)
    resets = seen.pop("reset", 0)
    # 0 to 1 in 10,000 on a machine that does nothing else.
    assert resets <= 2 + seen.total() // 1000, (resets, seen)
    assert set(seen) == {"200", "200 close"}, seen
    await asyncio.to_thread(scene.wait_used, who, seen.total())
    done = await asyncio.to_thread(scene.gateway.cli, "audit")
    assert done.code == 0, (done.out, done.err)
