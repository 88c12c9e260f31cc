"""PostgreSQL is away: whoever needs it hears so at once, and the log says it in a line."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.api.admin_client import Admin
from tests.support.configs import Caller, route
from tests.support.postgres import Server
from tests.support.stage import Stage, stage
from tests.support.until import until
from tests.support.valkey import Valkey

PATIENCE_S = 30.0  # it is at once, but for a machine that has other things to do


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, server: Server, valkey: Valkey
) -> Iterator[Stage]:
    with stage(
        tmp_path_factory.mktemp("away"),
        [route("GET /n/{id}", {"coins": 1})],
        accounts=10,
        store={"url": server.url + "&connect_timeout=2"},
        state={"url": valkey.url, "timeout": "1s"},
    ) as made:
        yield made


@pytest.fixture
def known(running: Stage) -> Caller:
    """Somebody whom the gateway has served."""
    who = running.newcomer()
    assert running.gateway.get("/n/1", who).status == 200
    assert running.used(who) == 1
    return who


@pytest.fixture
def away(known: Caller, server: Server, running: Stage) -> Iterator[None]:
    server.kill()
    yield
    server.start()
    until(lambda: running.gateway.admin("/readyz").status == 200, what="the store's return")


def test_figures_are_refused_where_the_state_was_begun_anew(
    running: Stage, server: Server, valkey: Valkey, known: Caller
) -> None:
    gateway = running.gateway
    valkey.kill()
    valkey.start()
    until(lambda: gateway.log.count('"state_begun"') > 1, what="another epoch")
    server.kill()
    try:
        for path in ("/v1/usage", "/v1/usage/breakdown"):
            began_s = time.monotonic()
            refused = gateway.get(path, known)
            assert (refused.status, refused.code) == (503, "store_unavailable")
            assert time.monotonic() - began_s < PATIENCE_S
    finally:
        server.start()
    until(lambda: gateway.get("/v1/usage", known).status == 200, what="figures again")
    assert running.used(known) == 1


@pytest.mark.usefixtures("away")
def test_operators_are_told_which_it_is(running: Stage) -> None:
    admin = Admin(running.gateway.data_dir)
    asked = [("GET", f"/{name}") for name in ("accounts", "keys", "events", "audit", "audit-log")]
    asked.append(("DELETE", "/keys/key_1"))
    for method, path in asked:
        refused = admin.ask(method, path)
        assert (refused.status, refused.code) == (503, "store_unavailable"), path
    until(lambda: '"store_unavailable"' in running.gateway.log, what="a line of it")
    assert "Traceback" not in running.gateway.log


@pytest.mark.usefixtures("away")
def test_a_command_ends_with_what_the_gateway_says(running: Stage) -> None:
    done = running.gateway.cli("keys", "revoke", "key_1")
    assert done.code == 1
    assert "the gateway cannot reach its store: " in done.err
    assert "in use by process" not in done.err
