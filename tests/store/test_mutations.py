"""Accounts, keys and limit states come back as they were put in."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from gateway.core.book import Account
from gateway.core.identity import KeyRecord, digest_key
from gateway.core.rows import LimitState
from gateway.core.units import AMOUNT_MAX
from gateway.store import mutations
from gateway.store.database import ALREADY_THERE
from gateway.store.sink import SqliteSink
from gateway.store.sqlite import SqliteStore
from tests.support.stores import each_store, open_sink, open_store

pytestmark = each_store

KEY = KeyRecord(
    id="key_1",
    digest=digest_key(b"tg_test_x"),
    account="acc",
    user="ci",
    project="web",
    name="CI",
    hint="tg_test_…abcd",
    created_us=5,
    expires_us=10**15,
    routes=frozenset({"list", "get"}),
    networks=(ip_network("192.0.2.0/24"), ip_network("2001:db8::/32")),
)


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[SqliteSink]:
    made = open_sink(tmp_path)
    yield made
    made.close()


@pytest.fixture
def reader(sink: SqliteSink, tmp_path: Path) -> Iterator[SqliteStore]:
    made = open_store(tmp_path)
    yield made
    made.close()


def test_accounts(sink: SqliteSink, reader: SqliteStore) -> None:
    account = Account("acc", "free", anchor_us=123, title="Ünïcode Ltd", disabled=True)
    assert reader.account("acc") is None
    sink.run(lambda c: mutations.insert_account(c, account, 1))
    assert reader.account("acc") == account
    changed = Account(
        "acc",
        "pro",
        seats=7,
        overage=False,
        cap_micro=0,
        timezone="Europe/Kyiv",
        settings=(("quality", "best"),),
        allowances=(("coins", 5),),
        limits=(("hourly", 0),),
    )
    assert sink.run(lambda c: mutations.update_account(c, changed))
    assert reader.account("acc") == changed
    assert not sink.run(lambda c: mutations.update_account(c, Account("nobody", "pro")))
    with pytest.raises(ALREADY_THERE):
        sink.run(lambda c: mutations.insert_account(c, account, 1))


def test_keys(sink: SqliteSink, reader: SqliteStore) -> None:
    plain = KeyRecord("key_2", digest_key(b"other"), "acc2", created_us=1)
    for key in (KEY, plain):
        sink.run(lambda c, key=key: mutations.insert_key(c, key))  # type: ignore[misc]
    assert reader.key(KEY.digest) == KEY
    assert reader.key(plain.digest) == plain
    assert reader.key(digest_key(b"unknown")) is None
    assert sink.run(lambda c: mutations.list_keys(c)) == [KEY, plain]
    assert sink.run(lambda c: mutations.list_keys(c, "acc2")) == [plain]
    assert sink.run(lambda c: mutations.find_key(c, "key_1")) == KEY


def test_a_key_without_routes_is_not_a_key_for_all_routes(
    sink: SqliteSink, reader: SqliteStore
) -> None:
    none = KeyRecord("key_3", digest_key(b"none"), "acc", routes=frozenset(), networks=())
    sink.run(lambda c: mutations.insert_key(c, none))
    assert reader.key(none.digest) == none


def test_key_life(sink: SqliteSink, reader: SqliteStore) -> None:
    sink.run(lambda c: mutations.insert_key(c, KEY))
    assert sink.run(lambda c: mutations.set_key_expiry(c, "key_1", None))
    assert sink.run(lambda c: mutations.revoke_key(c, "key_1", 77))
    assert not sink.run(lambda c: mutations.revoke_key(c, "key_1", 99))
    key = reader.key(KEY.digest)
    assert key is not None
    assert (key.expires_us, key.revoked_us) == (None, 77)
    assert not sink.run(lambda c: mutations.set_key_expiry(c, "nobody", 1))


@pytest.mark.parametrize("store_kind", ["sqlite"], indirect=True)
def test_no_float_reaches_a_balance(sink: SqliteSink) -> None:
    for sql in (
        "INSERT INTO balances VALUES ('a', 'm', 0, '', 0.5)",
        "INSERT INTO charges VALUES (1, 0, 'm', 1e300, 0, '')",
        "INSERT INTO rollups VALUES (1, 'm', 0, 0, '', 1, 1, 'NaN')",
    ):
        with pytest.raises(sqlite3.IntegrityError):
            sink.run(lambda c, sql=sql: c.execute(sql))  # type: ignore[misc]
    with pytest.raises(sqlite3.IntegrityError):  # an overflow would become a float
        sink.run(
            lambda c: [
                c.execute("INSERT INTO balances VALUES ('a', 'm', 0, '', ?)", (2**63 - 1,)),
                c.execute("UPDATE balances SET used = used + ?", (AMOUNT_MAX,)),
            ]
        )


def test_limit_states(sink: SqliteSink, reader: SqliteStore) -> None:
    states = [LimitState("hourly", f"acc{n}", n, 0, 100 + n) for n in range(10)]
    sink.run(lambda c: mutations.save_limit_states(c, states, 0))
    sink.run(lambda c: mutations.save_limit_states(c, [states[9]._replace(first=99)], 105))
    left = sorted(reader.limit_states(107))
    assert left == [states[8], states[9]._replace(first=99)]


def test_audit_log(sink: SqliteSink) -> None:
    sink.run(
        lambda c: mutations.log_audit(
            c, time_us=1, actor="cli", action="key_revoked", subject="key_1"
        )
    )
    rows = sink.connection.execute("SELECT actor, action, subject FROM audit_log").fetchall()
    assert rows == [("cli", "key_revoked", "key_1")]


def test_a_failed_change_leaves_nothing(sink: SqliteSink, reader: SqliteStore) -> None:
    def half(connection: sqlite3.Connection) -> None:
        mutations.insert_key(connection, KEY)
        raise KeyError("boom")

    with pytest.raises(KeyError):
        sink.run(half)
    assert reader.key(KEY.digest) is None
