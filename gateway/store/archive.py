"""Files of a month's events: what is kept of them when they leave the store.

Invariants: a file has its name only when all of it is on disk; its manifest comes after it
and says what it must have (rows, sums, SHA-256). A month that is written again replaces
its files; those of another store are never touched. Must not know SQL.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import orjson

from gateway.core.book import Archive
from gateway.core.rows import is_cap_lot
from gateway.core.units import format_amount
from gateway.store.base import StoreError
from gateway.store.durable import begin, draft_of, sync, write_durably
from gateway.store.removal import ACCOUNT_AT, ID_AT, REQUEST_ID_AT, SEQ_AT, TIME_AT, Page, Rows

# Name and whether it is text; the rest are 64-bit integers. Instants and spans are
# microseconds, amounts the meter's smallest unit. Stable: columns are only added behind.
Columns = tuple[tuple[str, bool], ...]
EVENT_COLUMNS: Columns = (
    ("seq", False),
    ("id", True),
    ("time_us", False),
    ("account", True),
    ("user", True),
    ("project", True),
    ("key", True),
    ("caller", True),
    ("source", True),
    ("service", True),
    ("operation", True),
    ("route", True),
    ("method", True),
    ("path", True),
    ("status", False),
    ("outcome", True),
    ("bytes_in", False),
    ("bytes_out", False),
    ("duration_us", False),
    ("upstream_us", False),
    ("request_id", True),
    ("price_book", True),
)
CHARGE_COLUMNS: Columns = (
    ("seq", False),
    ("n", False),
    ("event", True),
    ("time_us", False),
    ("account", True),
    ("meter", True),
    ("amount", False),
    ("period_us", False),
    ("lot", True),
)
TABLES = {"events": EVENT_COLUMNS, "charges": CHARGE_COLUMNS}
SUFFIXES = {"csv": ".csv.gz", "parquet": ".parquet"}
HASHED_BYTES = 1 << 20


class TableFile(Protocol):
    """A file that rows are added to, in the order of its columns."""

    def write(self, rows: Rows) -> None: ...

    def close(self) -> None: ...


class CsvFile:
    """RFC 4180 with a head, in UTF-8, compressed by gzip; the same rows give the same bytes."""

    def __init__(self, path: Path, columns: Columns) -> None:
        self._raw = path.open("wb")
        self._zip = gzip.GzipFile("", "wb", compresslevel=6, fileobj=self._raw, mtime=0)
        self._text = io.TextIOWrapper(self._zip, "utf-8", newline="")
        self._csv = csv.writer(self._text, lineterminator="\r\n")
        self._csv.writerow(name for name, _ in columns)

    def write(self, rows: Rows) -> None:
        self._csv.writerows(rows)

    def close(self) -> None:
        self._text.close()
        self._raw.close()


def prepare(archive: Archive) -> None:
    """Whether it can be written, before there is anything to write. Raises StoreError."""
    if archive.format == "parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            text = "store.retention.archive.format: expected pyarrow for parquet"
            raise StoreError(f"{text}: pip install 'tallygate[parquet]' ({error})") from None
    try:
        Path(archive.dir).mkdir(mode=0o700, parents=True, exist_ok=True)
        is_writable = os.access(archive.dir, os.W_OK | os.X_OK)
    except OSError as error:
        raise StoreError(f"store.retention.archive.dir: {error}") from None
    if not is_writable:
        text = f"expected a folder that can be written, found {archive.dir!r}"
        raise StoreError(f"store.retention.archive.dir: {text}")


def part_name(month: str, part: int) -> str:
    """2026-03, and 2026-03-2 for what came late."""
    return month if part == 1 else f"{month}-{part}"


def manifest_name(name: str) -> str:
    return f"manifest-{name}.json"


class MonthFiles:
    """The files of one part of a month; nothing has its name before `finish`."""

    def __init__(self, archive: Archive, store_id: str, month: str, part: int) -> None:
        """Raises OSError, and StoreError where the files are another store's."""
        self._home = Path(archive.dir)
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._facts: dict[str, Any] = {"store": store_id, "month": month, "part": part}
        name = part_name(month, part)
        self.manifest = manifest_name(name)
        self._refuse_foreign(store_id)
        suffix = SUFFIXES[archive.format]
        self._paths = {table: self._home / f"{table}-{name}{suffix}" for table in TABLES}
        self._rows = dict.fromkeys(TABLES, 0)
        self._sums: dict[str, list[int]] = {}  # by meter: charges, amount
        self._files: dict[str, TableFile] = {}
        try:
            for table, columns in TABLES.items():
                self._files[table] = _open(archive, draft_of(self._paths[table]), columns)
        except BaseException:
            self.discard()
            raise

    def _refuse_foreign(self, store_id: str) -> None:
        try:
            found = orjson.loads((self._home / self.manifest).read_bytes())
        except FileNotFoundError:
            return
        except orjson.JSONDecodeError:
            found = {}
        if not isinstance(found, dict) or found.get("store") != store_id:
            text = "expected a folder of this store's own, found files of another"
            raise StoreError(f"{self._home / self.manifest}: {text}")

    @property
    def events(self) -> int:
        return self._rows["events"]

    @property
    def charges(self) -> int:
        return self._rows["charges"]

    def write(self, page: Page) -> None:
        self._add("events", [_event_row(row) for row in page.events])
        of = {row[SEQ_AT]: (row[ID_AT], row[TIME_AT], row[ACCOUNT_AT]) for row in page.events}
        self._add("charges", [(seq, n, *of[seq], *rest) for seq, n, *rest in page.charges])
        for _, _, meter, amount, _, lot in page.charges:
            if not is_cap_lot(lot):  # counted for a further allowance, not charged once more
                sums = self._sums.setdefault(meter, [0, 0])
                sums[0] += 1
                sums[1] += amount

    def _add(self, table: str, rows: Rows) -> None:
        self._files[table].write(rows)
        self._rows[table] += len(rows)

    def finish(self, decimals: Mapping[str, int]) -> str:
        """Everything on disk, under its name; the manifest's name. Raises OSError."""
        files = []
        for table, path in self._paths.items():
            self._files.pop(table).close()
            sync(draft_of(path))
            files.append(_facts_of(table, path, self._rows[table]))
        for path in self._paths.values():
            draft_of(path).replace(path)
        sync(self._home)
        meters = {
            meter: {
                "charges": count,
                "amount": amount,
                "decimals": decimals.get(meter, 0),
                "exact": format_amount(amount, decimals.get(meter, 0)),
            }
            for meter, (count, amount) in sorted(self._sums.items())
        }
        line = orjson.dumps({**self._facts, "files": files, "meters": meters}) + b"\n"
        write_durably(self._home / self.manifest, line)
        return self.manifest

    def discard(self) -> None:
        """Leave nothing of what was begun; what is finished stays."""
        for file in self._files.values():
            file.close()
        self._files = {}
        for path in self._paths.values():
            draft_of(path).unlink(missing_ok=True)


def _open(archive: Archive, path: Path, columns: Columns) -> TableFile:
    begin(path)
    if archive.format == "csv":
        return CsvFile(path, columns)
    from gateway.store.archive_parquet import ParquetFile

    return ParquetFile(path, columns)


def _event_row(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """The store leaves the request's id out where it is the event's."""
    return (*row[:REQUEST_ID_AT], row[REQUEST_ID_AT] or row[ID_AT], *row[REQUEST_ID_AT + 1 :])


def _facts_of(table: str, path: Path, rows: int) -> dict[str, Any]:
    digest = hashlib.sha256()
    draft = draft_of(path)
    with draft.open("rb") as file:
        while block := file.read(HASHED_BYTES):
            digest.update(block)
    return {
        "table": table,
        "name": path.name,
        "rows": rows,
        "bytes": draft.stat().st_size,
        "sha256": digest.hexdigest(),
    }
