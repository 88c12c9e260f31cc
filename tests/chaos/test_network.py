"""The network between gateways and the shared state."""

from __future__ import annotations

from functools import partial

import pytest

from tests.chaos.checks import Excuse
from tests.chaos.play import Chaos
from tests.chaos.scene import Scene
from tests.chaos.shared import DENY

NOTICED_S = 3.0  # a call is given up after 1 s, and tried twice
AWAY = Excuse(is_exact=False, keeps_rates=False)  # each gateway decides from what it knows


def test_a_reply_that_is_lost_after_the_script_ran(chaos: Chaos, scene: Scene) -> None:
    before = sum([door.swallowed for door in scene.state_doors])
    lose = partial(scene.lose, scene.state_doors, b"EVALSHA", 20)
    chaos.play(scene, "Valkey: replies lost", lose, scene.heal)
    assert sum([door.swallowed for door in scene.state_doors]) >= before + 2


def test_a_delay(chaos: Chaos, scene: Scene) -> None:
    """The one that is far has its turn, also at accounts that are written as a whole."""

    def delay() -> None:
        scene.state_doors[0].delay(0.05)

    chaos.play(scene, "Valkey: 50 ms each way for one gateway", delay, scene.heal)


def test_a_partition(chaos: Chaos, scene: Scene) -> None:
    """What was sent before arrives when it has healed, long after anybody waited for it."""
    door = scene.state_doors[0]
    chaos.play(scene, "Valkey: one gateway cut off", door.shut, door.open, AWAY, NOTICED_S)


def test_a_partition_that_loses_what_was_sent(chaos: Chaos, scene: Scene) -> None:
    door = scene.state_doors[0]
    heal = partial(door.open, keeps=False)
    chaos.play(scene, "Valkey: one gateway cut off, packets lost", door.shut, heal, AWAY, NOTICED_S)


@pytest.mark.parametrize("scene", [DENY], indirect=True, ids=["deny"])
def test_a_partition_where_the_state_may_not_be_done_without(chaos: Chaos, scene: Scene) -> None:
    name, refused = "Valkey: one gateway cut off, deny", Excuse(frozenset({"store_unavailable"}))
    door = scene.state_doors[0]
    calls = chaos.play(scene, name, door.shut, door.open, refused, NOTICED_S)
    assert [call for call in calls if call.code == "store_unavailable"]
