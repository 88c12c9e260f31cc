"""A store that cannot be read is 503 and nothing else: no 401, no 429, no 500."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from gateway.store.base import StoreUnavailable
from gateway.store.sink import SqliteSink
from gateway.store.sqlite import SqliteStore
from tests.support.configs import route
from tests.support.raw import head
from tests.support.stage import stage


def test_the_reader_says_so(tmp_path: Path) -> None:
    SqliteSink.open(tmp_path / "x.db").close()
    store = SqliteStore(tmp_path / "x.db")
    store.close()
    for ask in (lambda: store.key(b""), lambda: store.account("a"), lambda: store.balances("a")):
        with pytest.raises(StoreUnavailable):
            ask()


def test_a_caller_gets_503(tmp_path: Path) -> None:
    with stage(tmp_path, [route("GET /a", {"coins": 1})], accounts=2) as running:
        known, unknown = running.newcomer(), running.newcomer()
        assert running.ask(head("GET", "/a", known.bearer)).status == 200
        with sqlite3.connect(next(tmp_path.rglob("*.db"))) as spoiler:
            spoiler.execute("ALTER TABLE balances RENAME TO elsewhere")
        spoiler.close()
        try:
            answer = running.ask(head("GET", "/a", unknown.bearer))
            assert (answer.status, answer.code) == (503, "store_unavailable")
            assert answer.get("retry-after") == "1"
            assert running.ask(head("GET", "/a", known.bearer)).status == 200
        finally:
            with sqlite3.connect(next(tmp_path.rglob("*.db"))) as spoiler:
                spoiler.execute("ALTER TABLE elsewhere RENAME TO balances")
            spoiler.close()
        assert running.ask(head("GET", "/a", unknown.bearer)).status == 200
