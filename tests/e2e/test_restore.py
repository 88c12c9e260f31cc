"""Backups that are made while gateways run, and what is there after they are restored.

docs/operations.md, "Backup and restore", with its commands.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from tests.e2e.test_crash import assert_audit_is_clean
from tests.support import valkey
from tests.support.configs import Caller, Config, config, pool, route
from tests.support.databases import OwnDatabase
from tests.support.gateway import Gateway, NotStarted
from tests.support.recorder import Recorder
from tests.support.until import until

pytestmark = pytest.mark.sqlite

(TIGHT,) = pool("acct", 1)
PLANS = {"tight": {"allowances": {"coins": {"amount": 12, "per": "month"}}}}
BACK_UP = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).backup(sqlite3.connect(sys.argv[2]))"


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    running = Recorder()
    yield running
    running.stop()


def of(recorder: Recorder, **more: object) -> Config:
    routes = [route("GET /n/{id}", {"coins": 1})]
    return config(recorder.port, routes=routes, callers={"tight": [TIGHT]}, plans=PLANS, **more)


def calls(gateway: Gateway, count: int, who: Caller = TIGHT) -> Counter[int]:
    return Counter(gateway.get(f"/n/{number}", who).status for number in range(count))


def is_shipped(gateway: Gateway) -> bool:
    return b"tallygate_journal_unshipped_records 0.0" in gateway.admin("/metrics").body


def used(gateway: Gateway) -> int:
    return int(gateway.settled_usage(TIGHT)["used"])


class Fleet:
    """Two gateways with a database and a prefix of their own."""

    def __init__(self, home: Path, recorder: Recorder) -> None:
        name = "r" + hashlib.sha256(str(home).encode()).hexdigest()[:16]
        self.database = OwnDatabase(name)
        self.prefix = name
        state = {"url": valkey.server().url, "prefix": name}
        built = of(recorder, store={"url": self.database.url}, state=state)
        for number in ("one", "two"):
            (home / number).mkdir()
        self.one, self.two = (Gateway(built, home / number) for number in ("one", "two"))

    def each(self, do: Callable[[Gateway], object]) -> None:
        for gateway in (self.one, self.two):
            do(gateway)

    def shipped(self) -> None:
        self.each(lambda gateway: until(lambda: is_shipped(gateway), what="shipping"))

    def forget_state(self) -> None:
        """As `valkey-cli --scan --pattern 'PREFIX{0}*' | xargs valkey-cli unlink`."""
        with redis.Redis.from_url(valkey.server().url, protocol=2) as server:
            keys = list(server.scan_iter(f"{self.prefix}{{0}}*"))
            assert keys, "there is something to forget"
            server.unlink(*keys)


@pytest.fixture
def fleet(tmp_path: Path, recorder: Recorder) -> Iterator[Fleet]:
    made = Fleet(tmp_path, recorder)
    try:
        made.each(Gateway.start)
        yield made
        made.each(Gateway.stop)
    finally:
        made.each(Gateway.kill)
        made.database.drop()


def drop_journal(gateway: Gateway) -> None:
    """Its disk is lost; a new one is empty."""
    shutil.rmtree(gateway.data_dir)


@pytest.mark.parametrize("disks", ["lost", "kept"])
def test_a_dump_of_a_running_fleet(fleet: Fleet, tmp_path: Path, disks: str) -> None:
    """It is one moment; journals that are there bring back what came after it."""
    assert calls(fleet.one, 3) + calls(fleet.two, 2) == {200: 5}
    fleet.shipped()
    fleet.database.dump(tmp_path / "dump")
    assert calls(fleet.one, 3) + calls(fleet.two, 1) == {200: 4}
    fleet.shipped()
    fleet.each(Gateway.kill)
    fleet.database.restore(tmp_path / "dump")
    fleet.forget_state()
    if disks == "lost":
        fleet.each(drop_journal)
    fleet.each(Gateway.start)
    spent = 5 if disks == "lost" else 9
    assert used(fleet.one) == used(fleet.two) == spent
    left = 12 - spent
    assert calls(fleet.one, 2) + calls(fleet.two, 7) == {200: left, 429: 9 - left}
    fleet.each(assert_audit_is_clean)


def test_failover_to_a_copy_that_lacks_the_last_events(fleet: Fleet, tmp_path: Path) -> None:
    """The gateways run on; what their journals still have is shipped once more, and once."""
    assert calls(fleet.one, 3) + calls(fleet.two, 2) == {200: 5}
    fleet.shipped()
    fleet.database.dump(tmp_path / "dump")
    assert calls(fleet.one, 3) + calls(fleet.two, 1) == {200: 4}
    fleet.shipped()
    fleet.database.restore(tmp_path / "dump")
    assert calls(fleet.one, 1) + calls(fleet.two, 1) == {200: 2}
    fleet.shipped()
    assert used(fleet.one) == used(fleet.two) == 11
    assert calls(fleet.one, 2) == {200: 1, 429: 1}
    fleet.each(assert_audit_is_clean)


def in_store(fleet: Fleet) -> int:
    with psycopg.connect(fleet.database.url) as connection:
        sql = "SELECT count(*) FROM events WHERE account = %s"
        row = connection.execute(sql, (TIGHT.account,)).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("disk", ["lost", "back"])
def test_a_killed_gateway_whose_disk_is(fleet: Fleet, disk: str) -> None:
    """Documents count what a lost journal had; forgotten, they are what the store says."""
    assert calls(fleet.two, 1) + calls(fleet.one, 3) == {200: 4}
    fleet.one.kill()
    until(lambda: is_shipped(fleet.two), what="shipping")
    spent = 4
    if disk == "lost":
        spent = in_store(fleet)
        drop_journal(fleet.one)
    fleet.one.start()
    fleet.shipped()
    fleet.forget_state()
    assert used(fleet.one) == used(fleet.two) == spent == in_store(fleet)
    assert calls(fleet.one, 5) + calls(fleet.two, 8) == {200: 12 - spent, 429: 1 + spent}
    fleet.each(assert_audit_is_clean)


@pytest.mark.parametrize("journal", ["lost", "kept"])
def test_an_embedded_backup(tmp_path: Path, recorder: Recorder, journal: str) -> None:
    gateway = Gateway(of(recorder), tmp_path)
    try:
        gateway.start()
        assert calls(gateway, 5) == {200: 5}
        until(lambda: is_shipped(gateway), what="shipping")
        store, copy = gateway.data_dir / "tallygate.db", tmp_path / "copy.db"
        command = [sys.executable, "-c", BACK_UP, str(store), str(copy)]
        subprocess.run(command, check=True, timeout=60)
        assert calls(gateway, 3) == {200: 3}
        gateway.stop()
        if journal == "lost":
            drop_journal(gateway)
            gateway.data_dir.mkdir()
        remove_store(gateway)
        shutil.copy(copy, store)
        gateway.start()
        spent = 5 if journal == "lost" else 8
        assert used(gateway) == spent
        assert_audit_is_clean(gateway)
        assert calls(gateway, 9) == {200: 12 - spent, 429: spent - 3}
        gateway.stop()
    finally:
        gateway.kill()


def remove_store(gateway: Gateway) -> None:
    """With what SQLite keeps beside it: it must not be read with another file."""
    for left in gateway.data_dir.glob("tallygate.db*"):
        left.unlink()


def test_a_backup_that_the_journal_does_not_reach_is_refused(
    tmp_path: Path, recorder: Recorder
) -> None:
    gateway = Gateway(of(recorder), tmp_path)
    try:
        gateway.start()
        assert calls(gateway, 2) == {200: 2}
        gateway.stop()
        store, copy = gateway.data_dir / "tallygate.db", tmp_path / "copy.db"
        shutil.copy(store, copy)
        gateway.start()
        assert calls(gateway, 2) == {200: 2}
        gateway.stop()
        gateway.start()
        assert calls(gateway, 2) == {200: 2}
        gateway.kill()
        remove_store(gateway)
        shutil.copy(copy, store)
        with pytest.raises(NotStarted, match="the store is older than the journal"):
            gateway.start()
        for segment in (gateway.data_dir / "journal").glob("*.journal"):
            segment.rename(tmp_path / segment.name)
        gateway.start()
        assert used(gateway) == 2
        assert_audit_is_clean(gateway)
        gateway.stop()
    finally:
        gateway.kill()
