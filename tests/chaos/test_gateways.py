"""A gateway that dies."""

from __future__ import annotations

from tests.chaos.checks import Excuse
from tests.chaos.play import Chaos
from tests.chaos.scene import Scene

# A connection that breaks with its gateway.
BROKEN = frozenset({"IncompleteReadError", "ConnectionResetError", "BrokenPipeError"})


def test_a_gateway_is_killed_and_started_again(chaos: Chaos, scene: Scene) -> None:
    one, _ = scene.gateways
    chaos.play(scene, "gateway killed, started again", one.kill, one.start, Excuse(BROKEN))
