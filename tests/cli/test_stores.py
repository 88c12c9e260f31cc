"""`migrate`, `retain` and `copy-store`: a store's schema, its old events, its way to PostgreSQL."""

from __future__ import annotations

import json
import time
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from gateway.core.book import StoreSettings
from gateway.core.periods import MONTH
from gateway.journal.recovery import recover
from gateway.journal.writer import Journal
from gateway.store.backend import backend_of
from gateway.store.lock import DataLock
from tests.cli.conftest import DECLARED, Run
from tests.journal.making import event, settings, write
from tests.support.stores import postgres_url


def test_migrate_says_what_it_would_do_and_does_it(offline: Run, tmp_path: Path) -> None:
    planned = offline("migrate", "--plan")
    assert planned.code == 0
    assert "would apply 0001_init.sql" in planned.out and "CREATE TABLE accounts" in planned.out
    assert not (tmp_path / "data" / "tallygate.db").exists()
    applied = offline("migrate").out.splitlines()
    assert applied[0] == "applied 0001_init.sql"
    assert "up to date" in offline("migrate").out


def test_migrate_waits_for_nobody(offline: Run, tmp_path: Path) -> None:
    with DataLock(tmp_path / "data"):
        done = offline("migrate")
    assert done.code == 1 and "in use by process" in done.err


def test_a_store_is_copied_and_proven_equal(offline: Run, file: Path, tmp_path: Path) -> None:
    url = postgres_url(tmp_path)
    assert offline("accounts", "create", "acme", "--title", "Ünïcode").code == 0
    assert offline("members", "set", "acme", "ada", "manager").code in (0, 1)
    key = offline("keys", "create", "acme", "--name", "ci").fields
    assert offline("topup", DECLARED.account, "coins", "3", "--id", "order-1").code == 0
    before = {name: offline(*name, "--json").json for name in SHOWN}
    copied = offline("copy-store", "--to", url)
    assert (copied.code, copied.err) == (0, "")
    assert "accounts: 1 rows" in copied.out and copied.out.count("clean;") == 2
    again = offline("copy-store", "--to", url)
    assert again.code == 1 and "expected an empty database" in again.err
    document = json.loads(file.read_text())
    file.write_text(json.dumps({**document, "store": {"url": url}}))
    assert {name: offline(*name, "--json").json for name in SHOWN} == before
    assert offline("accounts", "create", "later").code == 0  # numbers go on behind the copied ones
    assert offline("keys", "revoke", key["id"]).fields["state"] == "revoked"
    assert offline("audit").code == 0
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM journals").fetchone() == (1,)
    document["meters"]["coins"]["decimals"] = 3
    file.write_text(json.dumps({**document, "store": {"url": url}}))
    assert "meters.coins.decimals: expected 0" in offline("accounts", "list").err


SHOWN = (
    ("accounts", "list"),
    ("keys", "list"),
    ("ledger", DECLARED.account),
    ("usage", DECLARED.account),
    ("audit-log",),
)


def test_a_wrong_url_is_not_shown(offline: Run) -> None:
    done = offline("copy-store", "--to", "mysql://ada:secret@host/db")
    assert done.code == 1 and "expected a URL such as postgresql://" in done.err
    assert "secret" not in done.err


@pytest.fixture
def old(file: Path, tmp_path: Path) -> int:
    """A configuration that keeps two months, and events of four in its store; how many."""
    document = json.loads(file.read_text())
    kept = {"events": "2 months", "archive": {"dir": str(tmp_path / "archive")}}
    file.write_text(json.dumps({**document, "store": {"retention": kept}}))
    return put_events(tmp_path / "data", "tallygate.db")


def put_events(data: Path, name: str, url: str = "") -> int:
    """Events of today, and of the first days of the five months before."""
    at_us = time.time_ns() // 1000
    times_us = [at_us]
    for _ in range(5):
        at_us = MONTH.span(at_us, 0).start_us - 1
        times_us.append(MONTH.span(at_us, 0).start_us)
    with closing(
        backend_of(StoreSettings(str(data / name), url)).open_sink(str(data / "journal"))
    ) as sink:
        journal = Journal.open(settings(data, dir=str(data / "journal")), sink.journal_id, 1)
        for number, time_us in enumerate(times_us):
            write(journal, event(number, time_us=time_us, account=DECLARED.account))
        journal.close()
        recover(str(data / "journal"), sink)
    return len(times_us)


def test_retain_says_what_it_would_do_and_does_it(offline: Run, old: int, tmp_path: Path) -> None:
    planned = offline("retain", "--plan")
    lines = planned.out.splitlines()
    assert (planned.code, len(lines)) == (0, 4)
    assert [": 1 events would be archived" in line for line in lines] == [True] * 3 + [False]
    assert lines[3].startswith("kept: events from ") and not (tmp_path / "archive").exists()
    usage = offline("history", DECLARED.account, "--meter", "coins", "--json").json
    done = offline("retain")
    assert (done.code, done.err) == (0, "")
    archived = [f"{line[:7]}: 1 events archived" for line in lines[:3]]
    assert [line.partition(" (")[0] for line in done.out.splitlines()] == archived
    assert offline("retain").out == "nothing is older than what is kept\n"
    assert offline("audit").code == 0
    listed = offline("events", "--account", DECLARED.account)
    assert len(listed.out.splitlines()) == 1 + old - 3
    assert "events before" in listed.err and "were removed" in listed.err
    again = offline("history", DECLARED.account, "--meter", "coins", "--json").json
    assert again == usage


def test_retain_drops_what_has_no_archive(offline: Run, old: int, file: Path) -> None:
    document = json.loads(file.read_text())
    del document["store"]["retention"]["archive"]
    file.write_text(json.dumps(document))
    assert offline("retain", "--plan").out.count("would be dropped") == 3
    assert offline("retain").out.count("1 events dropped") == 3


def test_retain_is_the_gateways_where_one_runs(offline: Run, old: int, tmp_path: Path) -> None:
    with DataLock(tmp_path / "data"):
        done = offline("retain")
        assert offline("retain", "--plan").code == 0
    assert done.code == 1 and "in use by process" in done.err


def test_retain_in_postgresql(offline: Run, old: int, file: Path, tmp_path: Path) -> None:
    document = json.loads(file.read_text())
    document["store"]["url"] = url = postgres_url(tmp_path)
    file.write_text(json.dumps(document))
    for arguments in (("retain",), ("retain", "--plan")):
        refused = offline(*arguments)
        assert refused.code == 1 and "run `tallygate migrate` first" in refused.err
    (tmp_path / "data" / "journal" / "journal.id").unlink(missing_ok=True)
    put_events(tmp_path / "pg", "", url)
    with DataLock(tmp_path / "data"):  # gateways may run meanwhile
        assert offline("retain", "--plan").out.count("would be archived") == 3
        assert offline("retain").out.count("1 events archived") == 3
        assert offline("retain").out == "nothing is older than what is kept\n"


def test_without_a_retention_everything_is_kept(offline: Run) -> None:
    for arguments in (("retain",), ("retain", "--plan")):
        done = offline(*arguments)
        assert (done.code, "all events are kept" in done.out) == (0, True)


def test_a_retention_that_cannot_be_is_refused(offline: Run, old: int, tmp_path: Path) -> None:
    (tmp_path / "archive").touch()
    done = offline("retain")
    assert done.code == 1 and "store.retention.archive.dir" in done.err
