"""A table as Parquet, by pyarrow (`tallygate[parquet]`). Must not know what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

GROUP_ROWS = 20_000  # some 10 MB of memory; readers skip groups by their least and largest values


class ParquetFile:
    """Implements gateway.store.archive.TableFile."""

    def __init__(self, path: Path, columns: tuple[tuple[str, bool], ...]) -> None:
        kinds = [
            pa.field(name, pa.string() if is_text else pa.int64(), nullable=False)
            for name, is_text in columns
        ]
        self._schema = pa.schema(kinds)
        self._writer = parquet.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[tuple[Any, ...]] = []

    def write(self, rows: list[tuple[Any, ...]]) -> None:
        self._rows += rows
        if len(self._rows) >= GROUP_ROWS:
            self._write_group()

    def _write_group(self) -> None:
        columns = list(zip(*self._rows, strict=True))
        arrays = [
            pa.array(values, field.type)
            for values, field in zip(columns, self._schema, strict=True)
        ]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self._rows = []

    def close(self) -> None:
        if self._rows:
            self._write_group()
        self._writer.close()
