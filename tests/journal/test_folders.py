"""Which journals are left over when the number of workers changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.journal.folders import left_folders, worker_folder


def begin(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "journal.id").write_text("x")


@pytest.mark.parametrize(
    ("workers", "left"),
    [(1, ["worker-1", "worker-3"]), (2, ["", "worker-3"]), (3, [""]), (64, [""])],
)
def test_what_is_left(tmp_path: Path, workers: int, left: list[str]) -> None:
    begin(tmp_path)
    for number in (1, 3):
        begin(Path(worker_folder(str(tmp_path), number)))
    Path(worker_folder(str(tmp_path), 4)).mkdir()  # nobody ever wrote there
    assert left_folders(str(tmp_path), workers) == [str(tmp_path / name) for name in left]


def test_nothing_is_left_where_nothing_was(tmp_path: Path) -> None:
    assert left_folders(str(tmp_path / "none"), 1) == []
    assert left_folders(str(tmp_path / "none"), 3) == []
