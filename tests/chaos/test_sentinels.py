"""The server of the shared state is killed, and Sentinels promote its replica."""

from __future__ import annotations

import pytest

from tests.chaos.checks import Excuse
from tests.chaos.play import Chaos
from tests.chaos.scene import Scene
from tests.chaos.shared import Setting
from tests.chaos.state import Sentinels

ALLOW = Setting("sentinels")
DENY = Setting("sentinels", "deny")
# What the replica has not heard of is lost for rates; who decides alone knows no others.
EXCUSES = {
    ALLOW: Excuse(is_exact=False, keeps_rates=False),
    DENY: Excuse(frozenset({"store_unavailable"}), keeps_rates=False),
}


@pytest.mark.parametrize(
    ("scene", "setting"), [(s, s) for s in EXCUSES], indirect=["scene"], ids=["allow", "deny"]
)
def test_a_replica_is_promoted(chaos: Chaos, scene: Scene, setting: Setting) -> None:
    """With "allow" nobody hears of it; with "deny" no limit is passed."""
    assert isinstance(scene.state, Sentinels)
    watched = scene.state.watched
    chaos.play(
        scene,
        f"Sentinels: server killed, {setting.when_away}",
        lambda: watched.primary.kill(),
        watched.wait_promoted,
        EXCUSES[setting],
        ends_itself=True,
        restore=watched.restore,
    )
