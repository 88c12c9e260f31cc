"""Requests without a pause: some is taken ahead of them, at two gateways, when trouble comes.

Two of the three accounts are used up under it, to the last unit and not by one more.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest

from tests.chaos.checks import HOUR_S, Excuse
from tests.chaos.load import Call
from tests.chaos.play import Chaos
from tests.chaos.scene import Scene
from tests.chaos.shared import Setting
from tests.chaos.test_gateways import BROKEN
from tests.chaos.test_state import AWAY
from tests.support.gateway import Gateway
from tests.support.until import until

HOT = Setting(is_hot=True)
DENY = Setting(is_hot=True, when_away="deny")
CONNECTIONS = 10  # of each of three accounts at each gateway
FROZEN_S = 2.5  # a call is given up after 1 s, and tried twice

allowed = pytest.mark.parametrize("scene", [HOT], indirect=True, ids=["allow"])
denied = pytest.mark.parametrize("scene", [DENY], indirect=True, ids=["deny"])


@pytest.fixture
def hot(chaos: Chaos) -> Chaos:
    """One round of the long form has more requests than all others have in theirs."""
    chaos.form = replace(chaos.form, connections=CONNECTIONS, pace_s=0.0, rounds=1)
    return chaos


def _served(scene: Scene, calls: Sequence[Call]) -> int:
    """Of the account that has plenty to the end."""
    roomy = scene.playing.callers["roomy"]
    return len([call for call in calls if call.stream.who == roomy and call.status == 200])


def _check_counted(scene: Scene, calls: Sequence[Call], since_s: float) -> None:
    """By the rate limit, too, each request is one; what nobody used was given back to it."""
    served = _served(scene, calls)
    for gateway in scene.gateways:

        def counted(gateway: Gateway = gateway) -> int:
            usage = gateway.get("/v1/usage", scene.playing.callers["roomy"]).json()
            return sum(
                [limit["used"] for limit in usage["rate_limits"] if limit["name"] == "hourly"]
            )

        if time.time() // HOUR_S == since_s // HOUR_S:  # it is the same window
            until(counted, lambda count: count == served, what=f"{served} counted at {gateway}")


@allowed
def test_some_is_taken_ahead_of_each_account(hot: Chaos, scene: Scene) -> None:
    """Else nothing of it would be tried here. Its document tells so from then on (run.lua)."""
    since_s = time.time()
    calls = hot.play(scene, "many requests, no trouble", lambda: None, lambda: None)
    for _, who, _ in scene.playing.items():
        assert b"a" in scene.document(who), who
    _check_counted(scene, calls, since_s)


@allowed
def test_a_gateway_is_killed_and_started_again(hot: Chaos, scene: Scene) -> None:
    one, _ = scene.gateways
    name, broken = "many requests, gateway killed", Excuse(BROKEN)
    hot.play(scene, name, one.kill, one.start, broken, ends_itself=True)


@allowed
def test_a_state_that_is_emptied(hot: Chaos, scene: Scene) -> None:
    name, emptied = "many requests, Valkey emptied", Excuse(keeps_rates=False)
    valkey = scene.valkey
    hot.play(scene, name, lambda: valkey.command("FLUSHALL"), lambda: None, emptied)


@allowed
def test_a_state_that_is_killed_comes_back_empty(hot: Chaos, scene: Scene) -> None:
    valkey = scene.valkey
    hot.play(scene, "many requests, Valkey killed", valkey.kill, valkey.start, AWAY)


@denied
def test_a_state_that_is_killed_and_may_not_be_done_without(hot: Chaos, scene: Scene) -> None:
    name = "many requests, Valkey killed, when_away: deny"
    refused = Excuse(frozenset({"store_unavailable"}), keeps_rates=False)
    valkey = scene.valkey
    hot.play(scene, name, valkey.kill, valkey.start, refused)


@allowed
def test_a_state_that_is_frozen(hot: Chaos, scene: Scene) -> None:
    valkey = scene.valkey
    thaw = partial(valkey.freeze, False)
    hot.play(scene, "many requests, Valkey frozen", valkey.freeze, thaw, AWAY, FROZEN_S)


@allowed
def test_a_reply_that_is_lost_after_the_script_ran(hot: Chaos, scene: Scene) -> None:
    before = sum([door.swallowed for door in scene.state_doors])
    lose = partial(scene.lose, scene.state_doors, b"EVALSHA", 20)
    since_s = time.time()
    calls = hot.play(scene, "many requests, Valkey: replies lost", lose, scene.heal)
    assert sum([door.swallowed for door in scene.state_doors]) >= before + 2
    _check_counted(scene, calls, since_s)
