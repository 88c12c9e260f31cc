"""A gateway that dies."""

from __future__ import annotations

from tests.chaos.checks import Excuse
from tests.chaos.play import Chaos
from tests.chaos.scene import Scene

# A connection that breaks with its gateway.
BROKEN = frozenset({"IncompleteReadError", "ConnectionResetError", "BrokenPipeError"})


def test_a_gateway_is_killed_and_started_again(chaos: Chaos, scene: Scene) -> None:
    """Before its holds run out, 15 s after: then others use what it had not told yet."""
    one, _ = scene.gateways
    name, broken = "gateway killed, started again", Excuse(BROKEN)
    chaos.play(scene, name, one.kill, one.start, broken, ends_itself=True)
