"""PostgreSQL goes away under a gateway that shares its state and has nothing to ship."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import valkey
from tests.support.configs import caller, config, route
from tests.support.gateway import Gateway, running
from tests.support.postgres import Server
from tests.support.recorder import Recorder
from tests.support.until import until

pytestmark = pytest.mark.sqlite

WHO = caller("acct")
PLANS = {"roomy": {"allowances": {"coins": {"amount": 1000, "per": "month"}}}}


@pytest.fixture
def gateway(tmp_path: Path, server: Server) -> Iterator[Gateway]:
    recorder = Recorder()
    built = config(
        recorder.port,
        routes=[route("GET /n/{id}", {"coins": 1})],
        callers={"roomy": [WHO]},
        plans=PLANS,
        store={"url": server.url + "&connect_timeout=2"},
        state={"url": valkey.server().url, "prefix": f"store-away-{tmp_path.name}"},
    )
    made = Gateway(built, tmp_path)
    try:
        with running([made]):
            yield made
    finally:
        recorder.stop()


def test_an_idle_gateway_says_that_its_store_is_away(gateway: Gateway, server: Server) -> None:
    until(lambda: gateway.admin("/readyz").status, lambda s: s == 200, what="its begin")
    server.kill()
    try:
        until(lambda: gateway.admin("/readyz").status, lambda s: s == 503, what="the trouble")
        [problem] = gateway.admin("/readyz").json()["problems"]
        assert problem.startswith("store: ") and len(problem) > len("store: ")
        assert gateway.admin("/readyz?exclude=store").json() == {"status": "ready", "problems": []}
    finally:
        server.start()
    until(lambda: gateway.admin("/readyz").status, lambda s: s == 200, what="its end")
    assert gateway.get("/n/2", WHO).status == 200
