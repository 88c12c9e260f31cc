"""A gateway whose PostgreSQL dies, freezes, and comes back: no answer is lost, none counts twice.

The server is one of its own here, for it is killed.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.e2e.test_crash import Load, assert_audit_is_clean
from tests.support.configs import route
from tests.support.postgres import Server
from tests.support.raw import head
from tests.support.stage import Stage, stage
from tests.support.until import until

CLIENTS = 4


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Iterator[Stage]:
    home = tmp_path_factory.mktemp("postgres")
    url = server.url + "&connect_timeout=2"
    routes = [route("GET /n/{id}", {"coins": 1})]
    with stage(home, routes, accounts=40, store={"url": url}) as made:
        yield made


def is_shipped(stage: Stage) -> bool:
    lines = stage.gateway.admin("/metrics").body.decode().splitlines()
    return "tallygate_journal_unshipped_records 0.0" in lines


def is_well(stage: Stage) -> bool:
    """Whether the shipper goes on."""
    return stage.gateway.admin("/readyz").status == 200


def test_a_server_killed_under_load_costs_no_event(running: Stage, server: Server) -> None:
    gateway = running.gateway
    callers = [running.newcomer() for _ in range(CLIENTS)]
    load = Load(gateway, callers, 0)
    load.wait(200)
    for _ in range(3):
        server.kill()
        before = len(load.acknowledged)
        load.wait(before + 300)  # who is known is served meanwhile
        server.start()
        until(lambda: is_well(running), what="shipping after the server is back")
        load.wait(len(load.acknowledged) + 200)
    gateway.kill()
    load.join()
    gateway.start()
    until(lambda: is_shipped(running), what="recovery")
    stored = Counter(str(row[0]) for row in server.ask("SELECT path FROM events"))
    assert set(stored.values()) == {1}
    assert set(load.acknowledged) <= set(stored)
    for who in callers:
        mine = [path for path in stored if path.startswith(f"/n/{who.account}-")]
        assert running.used(who) == len(mine)
    assert_audit_is_clean(gateway)


def test_a_frozen_server_holds_nobody_up(running: Stage, server: Server) -> None:
    known, unknown, later = (running.newcomer() for _ in range(3))
    assert running.ask(head("GET", "/n/1", known.bearer)).status == 200
    server.freeze()
    try:
        began_s = time.monotonic()
        refused = running.ask(head("GET", "/n/2", unknown.bearer))
        assert (refused.status, refused.code) == (503, "store_unavailable")
        assert time.monotonic() - began_s < 20  # it gives up; see docs/operations.md
        for number in range(50):
            assert running.ask(head("GET", f"/n/{number}", known.bearer)).status == 200
    finally:
        server.thaw()
    until(
        lambda: running.ask(head("GET", "/n/3", later.bearer)).status,
        lambda status: status == 200,
        what="the server's answer",
    )
    until(lambda: is_shipped(running), what="shipping")
    assert running.used(known) == 51
    assert_audit_is_clean(running.gateway)


def test_a_gateway_does_not_start_without_its_server(running: Stage, server: Server) -> None:
    gateway = running.gateway
    gateway.stop()
    server.kill()
    try:
        done = gateway.cli("usage", "acct-0")
        assert done.code == 1 and "tallygate: " in done.err and "Traceback" not in done.err
    finally:
        server.start()
        gateway.start()
