"""Where an operator's command goes: to the running gateway, or straight to the store.

The lock on the data directory decides: held, the gateway that holds it is asked
through its admin API; free, the command takes the lock and works on the store
itself, after bringing in what a crash has left in the journal. Either way the
same operations run (gateway/api/endpoints.py). Must not know what they mean.
"""

from __future__ import annotations

import getpass
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gateway.api.control import read_control
from gateway.cli.options import Failed
from gateway.cli.remote import RemoteOffice
from gateway.config import ConfigError, load
from gateway.store.base import StoreError
from gateway.store.lock import DataLock, DataLocked

if TYPE_CHECKING:
    from gateway.core.book import Book

# A gateway that starts has the lock before it listens; another command has it for a moment.
WAIT_S = 5.0


class Office(Protocol):
    """Takes one operation."""

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        idempotency_key: str = "",
    ) -> dict[str, Any]:
        """The operation's document. `path` is below /admin/v1, its names quoted. Raises Failed."""
        ...


@contextmanager
def open_office(config: Path, *, reads: bool = False) -> Iterator[Office]:
    """The office of a configuration. `reads`: there must be something. Raises Failed."""
    book = _load(config)
    if reads:
        _refuse_nothing(book, config)
    give_up_s = time.monotonic() + WAIT_S
    while True:
        try:
            lock = DataLock(book.data_dir)
        except DataLocked as exc:
            office = _remote(book, exc)
            if office is not None:
                yield office
                return
            if time.monotonic() > give_up_s:
                raise Failed(
                    f"{exc}; it cannot be asked: it has no admin listener or is not ready"
                ) from None
            time.sleep(0.1)
        except OSError as exc:
            raise Failed(f"{book.data_dir}: {exc.strerror or exc}") from None
        else:
            with lock:
                yield from _local(book)
            return


def _load(config: Path) -> Book:
    try:
        return load(config, os.environ).book
    except ConfigError as exc:
        lines = "\n".join(map(str, exc.problems))
        raise Failed(f"{config}: the configuration cannot be used\n{lines}") from None


def _refuse_nothing(book: Book, config: Path) -> None:
    """A question put to a folder that no gateway has used is a mistake, and makes nothing."""
    store = Path(book.store.path)
    lock = Path(book.data_dir) / "lock"
    if book.store.url or store.exists() or lock.exists():
        return
    raise Failed(
        f"no gateway has kept anything in {Path(book.data_dir).absolute()} yet: expected"
        f" {store.name} there. A relative data_dir (in {config}) is looked for from the folder"
        " that the command is called in"
    )


def _remote(book: Book, locked: DataLocked) -> RemoteOffice | None:
    """The gateway that holds the lock, None while it does not answer."""
    try:
        control = read_control(Path(book.data_dir))
    except PermissionError:
        raise Failed(
            f"{locked}; its control file belongs to another user: run this command as that user"
        ) from None
    except ValueError as exc:
        raise Failed(str(exc)) from None
    if control is None:
        return None
    office = RemoteOffice(Path(book.data_dir), control, _operator_name())
    return office if office.is_there() else None


def _local(book: Book) -> Iterator[Office]:
    from gateway.cli.offline import OfflineOffice
    from gateway.journal.errors import JournalError

    try:
        office = OfflineOffice(book, _operator_name())
    except (StoreError, JournalError, OSError) as exc:
        raise Failed(str(exc)) from None
    try:
        yield office
    finally:
        office.close()


def _operator_name() -> str:
    """Who runs the command, for the audit log."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"  # a container's user may have no name
