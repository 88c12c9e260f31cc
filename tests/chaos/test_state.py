"""The server of the shared state dies, freezes, forgets, or is another one."""

from __future__ import annotations

from functools import partial

import pytest

from tests.chaos.checks import Excuse
from tests.chaos.play import Chaos
from tests.chaos.scene import Scene
from tests.chaos.shared import DENY
from tests.support.until import until
from tests.support.valkey import Valkey

NOTICED_S = 3.0  # a call is given up after 1 s, and tried twice
AWAY = Excuse(is_exact=False, keeps_rates=False)  # each gateway decides from what it knows


def test_a_state_that_is_killed_comes_back_empty(chaos: Chaos, scene: Scene) -> None:
    valkey = scene.valkey
    chaos.play(scene, "Valkey killed, started empty", valkey.kill, valkey.start, AWAY)


def test_a_state_that_is_emptied(chaos: Chaos, scene: Scene) -> None:
    emptied = Excuse(keeps_rates=False)
    chaos.play(
        scene, "Valkey emptied", lambda: scene.valkey.command("FLUSHALL"), lambda: None, emptied
    )


def test_a_state_that_is_frozen(chaos: Chaos, scene: Scene) -> None:
    valkey = scene.valkey
    thaw = partial(valkey.freeze, False)
    chaos.play(scene, "Valkey frozen", valkey.freeze, thaw, AWAY, NOTICED_S)


@pytest.mark.parametrize("scene", [DENY], indirect=True, ids=["deny"])
def test_a_state_that_is_frozen_and_may_not_be_done_without(chaos: Chaos, scene: Scene) -> None:
    name, refused = "Valkey frozen, when_away: deny", Excuse(frozenset({"store_unavailable"}))
    valkey = scene.valkey
    thaw = partial(valkey.freeze, False)
    calls = chaos.play(scene, name, valkey.freeze, thaw, refused, NOTICED_S)
    assert [call for call in calls if call.code == "store_unavailable"]


def test_a_replica_takes_the_place_of_its_master(chaos: Chaos, scene: Scene) -> None:
    """By hand: what the replica had not heard yet is lost with the master."""

    def follow() -> None:
        """A replica that is up to date, and then in the master's place."""
        scene.valkey.command("CONFIG SET repl-diskless-sync-delay 0")
        replica = Valkey("--replicaof", "127.0.0.1", str(scene.valkey.port)).start()
        until(
            lambda: replica.command("INFO replication"),
            lambda told: b"master_link_status:up" in told,
            what="the replica",
        )
        scene.servers.one.fail_over(replica)

    chaos.play(scene, "Valkey killed, replica promoted", follow, lambda: None, AWAY)
