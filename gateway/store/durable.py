"""Files that are whole or not there, whatever ends the process, and only its user reads them.

A file is written as its draft beside it, brought to disk, and named. Functions raise OSError.
"""

from __future__ import annotations

import os
from pathlib import Path


def draft_of(path: Path) -> Path:
    """Where a file is written until it is whole."""
    return path.with_name(f".{path.name}.new")


def begin(draft: Path) -> None:
    """An empty file, whatever a crash has left there."""
    draft.unlink(missing_ok=True)
    draft.touch(0o600)


def write_durably(path: Path, content: bytes) -> None:
    """The whole file or none, on disk when this returns."""
    draft = draft_of(path)
    begin(draft)
    draft.write_bytes(content)
    sync(draft)
    draft.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """A file, or the names in a folder, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
