"""A gateway whose clock is stepped by hours under load, while the others' and the server's go on.

The server's own clock cannot be stepped without stepping the machine's. The step stays
within the day, so that what is used is of one period whoever tells it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from tests.chaos.play import Chaos
from tests.chaos.scene import Scene
from tests.support.gateway import Gateway

HOURS_MOST = 3


def _step(gateway: Gateway, seconds: int) -> None:
    (gateway.directory / "clock").write_text(str(seconds))
    os.kill(gateway.pid, signal.SIGUSR1)


def _ahead_s() -> int:
    now = datetime.now(UTC)
    left_s = 86_400 - (now.hour * 3600 + now.minute * 60)
    return min(HOURS_MOST * 3600, left_s // 2)


def _behind_s() -> int:
    now = datetime.now(UTC)
    return -min(HOURS_MOST * 3600, (now.hour * 3600 + now.minute * 60) // 2)


@pytest.mark.parametrize("far_s", [_ahead_s, _behind_s], ids=["ahead", "behind"])
def test_a_clock_that_is_stepped(chaos: Chaos, scene: Scene, far_s: Callable[[], int]) -> None:
    seconds = far_s()
    one, _ = scene.gateways
    name = f"clock of one gateway {seconds / 3600:+.1f} h"
    chaos.play(scene, name, lambda: _step(one, seconds), lambda: _step(one, 0))
