"""Gateways on one PostgreSQL database that do not share a state do not run beside each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.configs import caller, config, route
from tests.support.gateway import Gateway, NotStarted, free_port
from tests.support.recorder import Recorder
from tests.support.stores import postgres_url
from tests.support.until import until
from tests.support.valkey import Valkey

WHO = caller("acct")
Make = Callable[[str, dict[str, Any] | None], Gateway]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """A gateway on the test's database, with a folder of its own."""
    recorder = Recorder()
    made: list[Gateway] = []

    def make_one(name: str, state: dict[str, Any] | None) -> Gateway:
        built = config(
            recorder.port,
            routes=[route("GET /n/{id}", {"coins": 1})],
            callers={"tight": [WHO]},
            plans={"tight": {"allowances": {"coins": {"amount": 7, "per": "month"}}}},
            store={"url": postgres_url(tmp_path)},
            state=state or {},
        )
        directory = tmp_path / name
        directory.mkdir()
        made.append(Gateway(built, directory))
        return made[-1]

    yield make_one
    for gateway in made:
        if gateway.is_running:
            gateway.stop()
    recorder.stop()


def refused(gateway: Gateway) -> None:
    with pytest.raises(NotStarted, match="another gateway that does not share this state"):
        gateway.start()
    assert gateway.wait() == 1
    assert "Traceback" not in gateway.log and "not_started" in gateway.log


def test_two_without_a_state_do_not_run_beside_each_other(make: Make, tmp_path: Path) -> None:
    one, two = make("one", None), make("two", None)
    one.start()
    refused(two)
    assert one.cli("accounts", "list").code == 0
    assert two.cli("accounts", "list").code == 0  # a command decides on no request
    one.kill()
    one.start()  # the same journal again, at once
    with psycopg.connect(postgres_url(tmp_path), autocommit=True) as connection:
        connection.execute(_LET_GO)  # its writer's connection, and with it the claim
        assert one.get("/n/1", WHO).status == 200
        until(lambda: claims(connection) == 1, what="the claim, taken again")
    refused(two)
    one.stop()
    two.start()


def test_with_and_without_a_state_or_with_another_one(make: Make, valkey: Valkey) -> None:
    state = {"url": valkey.url, "prefix": "t-claim"}
    one = make("one", state).start()
    refused(make("bare", None))
    refused(make("other", {**state, "prefix": "t-claim-other"}))
    refused(make("elsewhere", {**state, "url": f"{valkey.url.rsplit('/', 1)[0]}/1"}))
    # The same by another name: it is the state that tells.
    two = make("two", {**state, "url": valkey.url.replace("127.0.0.1", "localhost")}).start()
    assert [gateway.get("/n/1", WHO).status for gateway in (one, two)] == [200, 200]
    valkey.command("FLUSHALL")
    until(lambda: valkey.command("GET t-claim{0}id")[:2] != b"$-", what="the state's id, again")
    make("three", state).start()


def test_one_that_cannot_reach_its_state_is_let_in_beside_others_that_share_one(
    make: Make, valkey: Valkey
) -> None:
    away = {"url": f"redis://127.0.0.1:{free_port()}/0", "prefix": "t-away"}
    make("one", {"url": valkey.url, "prefix": "t-away"}).start()
    two = make("two", away).start()
    refused(make("bare", None))
    assert two.get("/n/1", WHO).status == 200


def test_without_a_state_nobody_is_let_in(make: Make) -> None:
    one = make("one", None).start()
    refused(make("two", {"url": f"redis://127.0.0.1:{free_port()}/0"}))
    one.stop()


def claims(connection: psycopg.Connection[Any]) -> int:
    found = connection.execute(f"SELECT count(*) FROM ({_CLAIMS}) c").fetchone()
    assert found is not None
    return int(found[0])


_CLAIMS = """
    SELECT l.pid FROM pg_locks l WHERE l.locktype = 'advisory' AND l.objsubid = 2
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_LET_GO = f"SELECT pg_terminate_backend(c.pid) FROM ({_CLAIMS}) c"
