"""Segment files: their names, their reservation and their first line.

The journal is a row of numbered files of equal size. A file is reserved whole
(posix_fallocate) before it is needed and begins with zeros; it is begun when its header
is written. After the last record there are only zeros, or the end of the file. Must not
know what the records mean.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import orjson

from gateway.journal.errors import JournalDamaged, JournalMismatch
from gateway.journal.record import CRC_CHARS, FORMAT_VERSION, RECORD_MAX_BYTES, is_sealed, seal

SUFFIX = ".journal"


@dataclass(frozen=True, slots=True)
class Header:
    version: int
    journal_id: str
    first_seq: int
    in_flight: int  # requests admitted and not yet settled when the segment was begun
    position: int  # bytes written before it by the same process

    def line(self) -> bytes:
        fields = (self.version, self.journal_id, self.first_seq, self.in_flight, self.position)
        return seal(orjson.dumps(("h", *fields), option=orjson.OPT_APPEND_NEWLINE))


class Segment:
    """A reserved file, open for writing at explicit offsets."""

    __slots__ = ("fd", "number", "path", "size")

    def __init__(self, path: Path, number: int, fd: int, size: int) -> None:
        self.path = path
        self.number = number
        self.fd = fd
        self.size = size

    def __repr__(self) -> str:
        return f"<Segment {self.number} {self.size}B>"


def path_of(directory: Path, number: int) -> Path:
    return directory / f"{number:012d}{SUFFIX}"


def list_segments(directory: Path) -> list[tuple[int, Path]]:
    """Number and path of every segment file, oldest first."""
    found = [path for path in directory.glob(f"*{SUFFIX}") if path.stem.isdigit()]
    return sorted((int(path.stem), path) for path in found)


def reserve(directory: Path, number: int, size: int) -> Segment:
    """A new file whose whole space is taken on disk, its name made durable.

    Raises OSError when there is no space; nothing is left behind then.
    """
    path = path_of(directory, number)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, size)
        os.fsync(fd)
        sync_directory(directory)
    except OSError:
        os.close(fd)
        path.unlink()
        raise
    return Segment(path, number, fd, size)


def sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_header(path: Path, journal_id: str) -> tuple[Header, int] | None:
    """The header and the bytes it takes; None when the segment was reserved and not begun.

    Raises JournalDamaged for a broken header that records follow, JournalMismatch for a
    format we do not know or another journal's file.
    """
    with path.open("rb") as file:
        head = file.read(RECORD_MAX_BYTES)
    line, newline, rest = head.partition(b"\n")
    line += newline
    if not is_sealed(line):
        if rest.strip(b"\0"):
            raise JournalDamaged(str(path), 0, "the segment's header is broken")
        return None  # killed while it was begun: nothing was written after it
    kind, version, *values = orjson.loads(line[CRC_CHARS:])
    if kind != "h" or version != FORMAT_VERSION:
        raise JournalMismatch(
            f"{path}: expected journal format {FORMAT_VERSION}, found {version}:"
            " start the version of tallygate that wrote it once, to ship it"
        )
    header = Header(version, *values)
    if header.journal_id != journal_id:
        raise JournalMismatch(
            f"{path} belongs to journal {header.journal_id}, the store to {journal_id}: restore"
            " the store that belongs to this journal, or move the journal's files away"
        )
    return header, len(line)
