"""The store cannot be written for a while: what the two APIs say meanwhile, and after."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.api.admin_client import Admin
from tests.api.conftest import status_of
from tests.support.configs import Caller
from tests.support.stage import Stage
from tests.support.until import until

pytestmark = pytest.mark.sqlite


@pytest.fixture
def locked(api: Stage) -> Iterator[sqlite3.Connection]:
    """Somebody's SQL prompt holds the write lock, until it is closed."""
    path = api.gateway.data_dir / "tallygate.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as prompt:
        prompt.execute("BEGIN IMMEDIATE")
        yield prompt


def test_a_fleet_that_can_serve_stays_in_the_load_balancer(
    api: Stage, precise: Caller, locked: sqlite3.Connection
) -> None:
    gateway = api.gateway
    assert status_of(api, precise) == 200
    until(lambda: gateway.admin("/readyz").status, lambda s: s == 503, what="the trouble")
    assert gateway.admin("/readyz").json()["problems"][0].startswith("store: ")
    assert gateway.admin("/readyz?exclude=store").json() == {"status": "ready", "problems": []}
    assert gateway.admin("/readyz?exclude=draining").status == 503
    locked.execute("ROLLBACK")
    until(lambda: gateway.admin("/readyz").status, lambda s: s == 200, what="its end")


def test_figures_stay_live_and_agree_again(
    api: Stage, admin: Admin, precise: Caller, locked: sqlite3.Connection
) -> None:
    assert [status_of(api, precise) for _ in range(3)] == [200] * 3
    began_s = time.monotonic()
    coins = api.gateway.usage(precise)
    assert time.monotonic() - began_s < 5
    assert (coins["used"], coins["remaining"], coins["in_flight"]) == (3, 97, 0)
    assert coins["operations"] == []
    reply = admin.ask("PATCH", f"/accounts/{precise.account}", {"disabled": True})
    assert (reply.status, reply.code) == (503, "store_unavailable")
    locked.execute("ROLLBACK")
    assert status_of(api, precise) == 200, "a change that was refused was not made"
    operations = until(lambda: api.gateway.usage(precise)["operations"], what="the shipped events")
    assert (operations[0]["operation"], operations[0]["amount"]) == ("One", 4)
    assert admin.get("/audit")["clean"]
