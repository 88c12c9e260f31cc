"""The network between one gateway and the shared state is cut; the other one still has it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_configuration import facts
from tests.e2e.test_crash import assert_audit_is_clean
from tests.e2e.test_restore import PLANS, TIGHT, calls, used
from tests.support import valkey
from tests.support.configs import config, route
from tests.support.gateway import Gateway
from tests.support.recorder import Recorder
from tests.support.stores import postgres_url
from tests.support.until import until
from tests.support.wire import Wire

pytestmark = pytest.mark.sqlite


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire(valkey.server().port)
    yield made
    made.close()


@pytest.fixture(params=["allow", "deny"])
def pair(request: pytest.FixtureRequest, tmp_path: Path, wire: Wire) -> Iterator[list[Gateway]]:
    """The first one is behind the wire."""
    recorder = Recorder()
    made = []
    for name, port in (("one", wire.port), ("two", valkey.server().port)):
        built = config(
            recorder.port,
            routes=[route("GET /n/{id}", {"coins": 1})],
            callers={"tight": [TIGHT]},
            plans=PLANS,
            store={"url": postgres_url(tmp_path)},
            state={
                "url": f"redis://127.0.0.1:{port}/0",
                "prefix": f"split-{tmp_path.name}",
                "when_away": request.param,
            },
        )
        (tmp_path / name).mkdir()
        made.append(Gateway(built, tmp_path / name))
    try:
        for gateway in made:
            gateway.start()
        yield made
        for gateway in made:
            gateway.stop()
    finally:
        for gateway in made:
            gateway.kill()
        recorder.stop()


def test_each_side_decides_from_what_it_knows_or_not_at_all(
    request: pytest.FixtureRequest, pair: list[Gateway], wire: Wire
) -> None:
    """12 coins: 4 are spent before, and with `allow` the 8 that are left on each side."""
    one, two = pair
    assert calls(one, 2) + calls(two, 2) == {200: 4}
    until(lambda: used(one), lambda n: n == 4, what="the other's calls")
    wire.cut()
    allows = "allow" in request.node.name
    assert calls(one, 10) == ({200: 8, 429: 2} if allows else {503: 10})
    assert calls(two, 10) == {200: 8, 429: 2}
    until(lambda: facts(one, "state_away"), what="its absence in the log")
    wire.mend()
    spent = 20 if allows else 12
    for gateway in pair:
        until(lambda g=gateway: used(g), lambda n: n == spent, what="all of them")  # type: ignore[misc]
    assert calls(one, 2) + calls(two, 2) == {429: 4}
    for gateway in pair:
        assert_audit_is_clean(gateway)
    _assert_said(one, "allow" if allows else "deny")
    assert facts(two, "state_away") == []


def _assert_said(gateway: Gateway, when_away: str) -> None:
    """Once that it was away, and once that it is back."""
    [back] = until(lambda: facts(gateway, "state_back"), what="its return in the log")
    [away] = facts(gateway, "state_away")
    assert (away["level"], away["when_away"]) == ("warning", when_away)
    assert away["error"].strip(": ") == away["error"] != ""
    assert away["tag"] == back["tag"]
    assert back["seconds"] >= 0
