"""Gateways of several workers: one is killed, or what started them, or all at once.

Each is there again before its holds run out, as in test_gateways.py.
"""

from __future__ import annotations

import pytest

from tests.chaos.checks import Excuse
from tests.chaos.play import Chaos
from tests.chaos.scene import Scene
from tests.chaos.shared import Setting
from tests.chaos.test_gateways import BROKEN
from tests.support.workers import Workers

TWO = Setting(workers=2)
KILLED = Excuse(BROKEN)

pytestmark = pytest.mark.parametrize("scene", [TWO], indirect=True, ids=["two"])


@pytest.mark.parametrize("number", [1, 2])
def test_a_worker_is_killed(chaos: Chaos, scene: Scene, number: int) -> None:
    """The first one, too, which has more to do at the start."""
    workers = Workers(scene.gateways[0])
    killed = 0

    def kill() -> None:
        nonlocal killed
        killed = workers.kill(number)

    def wait() -> None:
        workers.wait_restarted(number, killed)

    chaos.play(scene, f"worker {number} of 2 killed", kill, wait, KILLED, ends_itself=True)


def test_a_supervisor_is_killed_and_started_again(chaos: Chaos, scene: Scene) -> None:
    """Its workers finish what they have, and the next ones wait for their end."""
    one, _ = scene.gateways
    name = "supervisor killed, started again"
    chaos.play(scene, name, one.kill, one.start, KILLED, ends_itself=True)


def test_a_supervisor_and_its_workers_are_killed_at_once(chaos: Chaos, scene: Scene) -> None:
    one, _ = scene.gateways
    name, kill = "supervisor and workers killed, started again", Workers(one).kill_all
    chaos.play(scene, name, kill, one.start, KILLED, ends_itself=True)
