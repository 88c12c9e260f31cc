"""The SQLite store's read side: some 20 microseconds a look-up, on a connection of its own."""

from __future__ import annotations

from pathlib import Path

from gateway.store.connect import open_reader
from gateway.store.reader import StoreReader


class SqliteStore(StoreReader):
    def __init__(self, path: str | Path) -> None:
        """Raises StoreError when there is no store of this version."""
        super().__init__(open_reader(Path(path)))
