"""Stores of either kind: SQLite in a test's folder, or a schema in a PostgreSQL server.

`pytestmark = each_store` runs a module's tests on both; what they open by a folder with
`open_sink` and the like is then of the kind in turn. The server is started once, on a
socket of its own, when the first test asks for it.
"""

from __future__ import annotations

import atexit
import hashlib
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from gateway.core.book import StoreSettings
from gateway.store.backend import Backend, backend_of
from gateway.store.database import Database
from gateway.store.postgres import PostgresStore
from gateway.store.reader import StoreReader
from gateway.store.sqlite import SqliteStore
from tests.support import cluster, valkey
from tests.support.postgres import begin

KINDS = ("sqlite", "postgres")
ALL_KINDS = (*KINDS, "fleet", "cluster")
_SHARED = ("fleet", "cluster", "workers")
_kind = "sqlite"

each_store = pytest.mark.usefixtures("store_kind")


def use_kind(kind: str) -> str:
    """The kind that is opened from now on; the one before."""
    global _kind
    before, _kind = _kind, kind
    return before


@cache
def server() -> str:
    """The URL of a PostgreSQL server that ends with this process."""
    home = Path(tempfile.mkdtemp(prefix="tallygate-pg-"))
    running = begin(home)

    def end() -> None:
        running.cleanup()
        shutil.rmtree(home, ignore_errors=True)

    atexit.register(end)
    url: str = running.get_uri()
    return url


@cache
def postgres_url(home: Path) -> str:
    """A schema of its own for each folder."""
    schema = "t_" + hashlib.sha256(str(home).encode()).hexdigest()[:16]
    with psycopg.connect(server(), autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}".encode())
    return f"{server()}&options={quote(f'-c search_path={schema}')}"


def settings_of(home: Path) -> StoreSettings:
    url = "" if _kind == "sqlite" else postgres_url(home)
    return StoreSettings(str(home / "store.db"), url)


def store_entry(data_dir: Path) -> dict[str, Any]:
    """The `store` of a gateway's configuration; none for SQLite in its usual place.

    With "fleet" also a state that it could share with others, with "cluster" on a Cluster, with
    "workers" that two processes do share.
    """
    if _kind == "sqlite":
        return {}
    entries: dict[str, Any] = {"store": {"url": postgres_url(data_dir)}}
    if is_shared():
        prefix = "t" + hashlib.sha256(str(data_dir).encode()).hexdigest()[:16]
        url = cluster.cluster().url if _kind == "cluster" else valkey.server().url
        entries["state"] = {"url": url, "prefix": prefix}
    if _kind == "workers":
        entries["workers"] = 2
    return entries


def is_shared() -> bool:
    """Whether others could have a part in what a gateway decides with."""
    return _kind in _SHARED


def backend(home: Path) -> Backend:
    return backend_of(settings_of(home))


def open_sink(home: Path) -> Any:
    return backend(home).open_sink(str(home / "journal"))


def open_store(home: Path) -> StoreReader:
    """The one that answers at once."""
    settings = settings_of(home)
    return PostgresStore(settings.url) if settings.url else SqliteStore(settings.path)


def open_report(home: Path) -> Database:
    return backend(home).open_reader()
