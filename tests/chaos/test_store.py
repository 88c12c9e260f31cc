"""PostgreSQL dies, freezes, or is slow: who is known is served, and nothing is lost."""

from __future__ import annotations

from tests.chaos.play import Chaos
from tests.chaos.scene import Scene


def test_a_store_that_is_killed(chaos: Chaos, scene: Scene) -> None:
    chaos.play(scene, "PostgreSQL killed, started again", scene.store.kill, scene.store.start)


def test_a_store_that_is_frozen(chaos: Chaos, scene: Scene) -> None:
    chaos.play(scene, "PostgreSQL frozen", scene.store.freeze, scene.store.thaw)


def test_a_store_that_is_slow(chaos: Chaos, scene: Scene) -> None:
    def slow() -> None:
        for door in scene.store_doors:
            door.delay(0.1)
            door.throttle(50_000)

    chaos.play(scene, "PostgreSQL slow: 0.1 s each way, 50 kB/s", slow, scene.heal)


def test_a_store_whose_replies_are_lost(chaos: Chaos, scene: Scene) -> None:
    """It has done what the gateway does not hear of."""
    before = sum([door.swallowed for door in scene.store_doors])
    chaos.play(
        scene,
        "PostgreSQL: replies lost",
        lambda: scene.lose(scene.store_doors, b"COMMIT", 4),
        scene.heal,
    )
    assert sum([door.swallowed for door in scene.store_doors]) >= before + 2
