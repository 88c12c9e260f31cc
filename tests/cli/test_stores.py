"""`migrate` and `copy-store`: a store's schema, and its way to PostgreSQL."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg

from gateway.store.lock import DataLock
from tests.cli.conftest import DECLARED, Run
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
