"""The shared state is a Cluster: slots move, nodes are killed, a replica is promoted."""

from __future__ import annotations

from functools import partial

import pytest

from tests.chaos.checks import Excuse
from tests.chaos.play import NO_EXCUSE, Chaos
from tests.chaos.scene import Scene
from tests.chaos.shared import Setting
from tests.chaos.state import Nodes, slot_of

ALLOW = Setting("cluster")
DENY = Setting("cluster", "deny")
# What the replica has not heard of is lost for rates; who decides alone knows no others.
EXCUSES = {
    ALLOW: Excuse(is_exact=False, keeps_rates=False),
    DENY: Excuse(frozenset({"store_unavailable"}), keeps_rates=False),
}
MOVED = ("later", "careful", "lots", "rated")  # one of each way to decide

of_both = pytest.mark.parametrize(
    ("scene", "setting"), [(s, s) for s in EXCUSES], indirect=["scene"], ids=["allow", "deny"]
)


def _nodes(scene: Scene) -> Nodes:
    assert isinstance(scene.state, Nodes)
    return scene.state


@pytest.mark.parametrize("scene", [DENY], indirect=True, ids=["deny"])
def test_slots_that_move(chaos: Chaos, scene: Scene) -> None:
    """There and back: nobody hears of it, and no limit is passed."""
    nodes = _nodes(scene)

    def move(*, back: bool) -> None:
        callers = scene.playing.callers
        slots = {slot_of(callers[name].account, nodes.groups) for name in MOVED}
        nodes.move(sorted(slots), back=back)

    there, back = partial(move, back=False), partial(move, back=True)
    chaos.play(scene, "Cluster: slots moved, and back", there, back, NO_EXCUSE)


@of_both
def test_a_replica_is_promoted(chaos: Chaos, scene: Scene, setting: Setting) -> None:
    cluster = _nodes(scene).cluster
    chaos.play(
        scene,
        f"Cluster: node killed, replica promoted, {setting.when_away}",
        lambda: cluster.nodes[0].kill(),
        cluster.wait_promoted,
        EXCUSES[setting],
        ends_itself=True,
        restore=cluster.restore,
    )


@of_both
def test_a_node_comes_back_empty(chaos: Chaos, scene: Scene, setting: Setting) -> None:
    """It has no replica: its accounts are decided without it, or refused."""
    lost = _nodes(scene).cluster.nodes[1]
    name = f"Cluster: node killed, started empty, {setting.when_away}"
    chaos.play(scene, name, lost.kill, lost.start, EXCUSES[setting])
