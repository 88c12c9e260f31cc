"""While the state is away nobody waits for it a second time, and asking costs next to nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest

from gateway.state.shared.link import Link, Reply, StateUnavailable
from tests.chaos.scene import Scene
from tests.chaos.shared import DENY, USUAL
from tests.support.raw import connected, head

TIMEOUT_S = 1.0  # of one call, as the scene has it
REQUESTS = 200
ASKS = 10_000


@pytest.mark.parametrize("scene", [USUAL, DENY], indirect=True, ids=["allow", "deny"])
def test_requests_do_not_wait_for_a_frozen_state_each(scene: Scene) -> None:
    """One after the other: if each waited for a timeout of its own, they would take 200 s."""
    who = scene.cast().callers["roomy"]
    gateway = scene.gateways[0]
    request = head("GET", "/n/breaker", who.bearer)
    with connected(gateway.port) as connection:

        def ask() -> int:
            connection.send(request)
            return connection.answer().status

        assert ask() == 200
        scene.valkey.freeze()
        try:
            first = ask()
            began_s = time.monotonic()
            statuses = {ask() for _ in range(REQUESTS)}
            took_s = time.monotonic() - began_s
        finally:
            scene.valkey.freeze(False)
    assert statuses == {first}
    assert took_s < REQUESTS * TIMEOUT_S / 4


class Silent:
    """A server that never answers in time. A link.Server."""

    def __init__(self) -> None:
        self.calls = 0

    async def run(self, keys: Sequence[str], arguments: Sequence[str | int | bytes]) -> Reply:
        self.calls += 1
        await asyncio.sleep(0.01)
        raise StateUnavailable("no answer")


async def test_asking_costs_no_call_and_nothing_is_kept() -> None:
    server = Silent()

    async def epoch(found: str) -> str:
        return found

    link = Link(server, "t{0}", "w", epoch, 1)
    link.start()
    with pytest.raises(StateUnavailable):
        await link.ask(["look", "k"], ("k",))
    waiting, calls = link.waiting, server.calls
    for _ in range(ASKS):
        with pytest.raises(StateUnavailable):
            await link.ask(["look", "k"], ("k",))
    assert (link.waiting, server.calls) == (waiting, calls)
    await link.stop(0)
