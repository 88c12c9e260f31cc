"""Where the journals of one data directory are.

A gateway of one process writes into the journal's folder itself, each of several workers into
a folder of its own below it. What another number of workers has left is found here, so that
it can be shipped, too.
"""

from __future__ import annotations

from pathlib import Path

PREFIX = "worker-"


def worker_folder(directory: str, number: int) -> str:
    """Of the worker with this number, from 1."""
    return str(Path(directory) / f"{PREFIX}{number}")


def left_folders(directory: str, workers: int) -> list[str]:
    """Folders with a journal that none of so many workers writes; 1: one process, no workers."""
    home = Path(directory)
    own = {home}
    if workers > 1:
        own = {Path(worker_folder(directory, number)) for number in range(1, workers + 1)}
    left = {home, *home.glob(f"{PREFIX}*")} - own
    return [str(folder) for folder in sorted(left) if _has_journal(folder)]


def _has_journal(folder: Path) -> bool:
    """Segments, or the name by which the store knows the journal."""
    return folder.is_dir() and any(entry.is_file() for entry in folder.iterdir())
