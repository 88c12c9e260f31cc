"""The network between gateways and the shared state."""

from __future__ import annotations

from functools import partial

from tests.chaos.play import Chaos
from tests.chaos.scene import Scene


def test_a_reply_that_is_lost_after_the_script_ran(chaos: Chaos, scene: Scene) -> None:
    before = sum([door.swallowed for door in scene.state_doors])
    lose = partial(scene.lose, scene.state_doors, b"EVALSHA", 20)
    chaos.play(scene, "Valkey: replies lost", lose, scene.heal)
    assert sum([door.swallowed for door in scene.state_doors]) >= before + 2


def test_a_delay(chaos: Chaos, scene: Scene) -> None:
    def delay() -> None:
        scene.state_doors[0].delay(0.05)

    chaos.play(scene, "Valkey: 50 ms each way for one gateway", delay, scene.heal)
