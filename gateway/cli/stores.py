"""`tallygate migrate`, `retain` and `copy-store`: the database under a gateway."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.options import Failed, config_option
from gateway.config import ConfigError, load

if TYPE_CHECKING:
    from gateway.core.book import Book, Retention
    from gateway.store.backend import Backend
    from gateway.store.removal_sqlite import Run


@click.command(short_help="Bring the store's schema up to date.")
@config_option
@click.option("--plan", is_flag=True, help="Print what would be applied, and change nothing.")
def migrate(config: Path, plan: bool) -> None:
    """Bring the schema of the configured store up to date, all or nothing.

    `serve` does the same when it starts. With PostgreSQL other gateways may run meanwhile.
    """
    from gateway.store.backend import backend_of
    from gateway.store.base import StoreError
    from gateway.store.database import ERRORS
    from gateway.store.lock import DataLock

    book = _book(config)
    try:
        backend = backend_of(book.store)
        files = backend.pending()
        if not plan and files:
            with DataLock(book.data_dir):
                backend.migrate()
    except (StoreError, OSError, *ERRORS) as exc:
        raise Failed(str(exc)) from None
    if not files:
        click.echo(f"{backend.where}: up to date")
    for file in files:
        click.echo(f"{'would apply' if plan else 'applied'} {file.name}")
        if plan:
            click.echo(file.read_text())


@click.command(short_help="Remove events after their time, archived first.")
@config_option
@click.option("--plan", is_flag=True, help="Print what would be done, and change nothing.")
def retain(config: Path, plan: bool) -> None:
    """Remove the events that are older than `store.retention` says, archived first.

    A running gateway does the same by itself, hourly. With PostgreSQL gateways may run
    meanwhile; a SQLite store is left to the one that has it.
    """
    from gateway.journal.errors import JournalError
    from gateway.store.backend import backend_of
    from gateway.store.base import StoreError
    from gateway.store.database import ERRORS

    book = _book(config)
    settings = book.store.retention
    if settings is None:
        click.echo("store.retention is not configured: all events are kept")
        return
    try:
        backend = backend_of(book.store)
        if book.store.url and backend.pending():
            raise Failed(f"{backend.where}: the schema is older; run `tallygate migrate` first")
        if plan:
            _plan_retention(backend, settings)
        else:
            _retain(book, backend, settings)
    except (StoreError, JournalError, OSError, *ERRORS) as exc:
        raise Failed(str(exc)) from None


def _plan_retention(backend: Backend, settings: Retention) -> None:
    from gateway.store.retention import plan

    found = plan(backend, settings, time.time_ns() // 1000)
    for month in found.unfinished:
        click.echo(f"{month}: would go on with a removal that was cut short")
    for due in found.months:
        click.echo(f"{due.month}: {due.events:,} events would be {_ending(settings, due.archive)}")
    click.echo(f"kept: events from {found.kept_from} on")


def _retain(book: Book, backend: Backend, settings: Retention) -> None:
    from gateway.store.retention import Retainer

    with _writer(book, backend) as run:
        done = Retainer(backend, settings, run).retain(time.time_ns() // 1000)
    if done is None:
        raise Failed("another process removes events just now")
    for removal in done:
        ending = _ending(settings, removal.archive)
        click.echo(f"{removal.month}: {removal.events:,} events {ending}")
    if not done:
        click.echo("nothing is older than what is kept")


@contextmanager
def _writer(book: Book, backend: Backend) -> Iterator[Run]:
    """A SQLite store has one writer, with the lock; with PostgreSQL none of ours is needed."""
    from gateway.journal.recovery import recover
    from gateway.store.lock import DataLock

    if book.store.url:
        yield lambda change: None
        return
    with DataLock(book.data_dir), closing(backend.open_sink(book.journal.dir)) as sink:
        recover(book.journal.dir, sink)
        yield sink.run


def _ending(settings: Retention, manifest: str) -> str:
    if not manifest or settings.archive is None:
        return "dropped"
    return f"archived ({Path(settings.archive.dir) / manifest}) and removed"


@click.command("copy-store", short_help="Copy a SQLite store to PostgreSQL.")
@config_option
@click.option("--to", "url", required=True, envvar="TALLYGATE_COPY_TO", show_envvar=True,
              help="An empty database: postgresql://user:password@host/name.")  # fmt: skip
def copy_store(config: Path, url: str) -> None:
    """Copy everything of the configured SQLite store to an empty PostgreSQL database.

    No gateway may run on the data directory. Both sides are audited; when they are equal,
    put the URL under `store.url` and start the gateway. The SQLite file stays as it is.
    """
    from gateway.config.fields import parse_database_url
    from gateway.config.problems import Expected
    from gateway.journal.errors import JournalError
    from gateway.store.base import StoreError
    from gateway.store.database import ERRORS
    from gateway.store.lock import DataLock

    book = _book(config)
    if book.store.url:
        raise Failed(f"{config}: expected a SQLite store, found store.url")
    try:
        parse_database_url(url)
        with DataLock(book.data_dir):
            _copy(book, url)
    except Expected as exc:
        found = f", found {exc.found}" if exc.found else ""
        raise Failed(f"--to: expected {exc}{found}") from None
    except (StoreError, JournalError, OSError, *ERRORS) as exc:
        raise Failed(str(exc)) from None


def _copy(book: Book, url: str) -> None:
    """What is left in the journal first, then every table, then the proof."""
    from gateway.core.book import StoreSettings
    from gateway.journal.recovery import recover
    from gateway.store.backend import JOURNAL_ID_FILE, backend_of, write_journal_id
    from gateway.store.copying import copy_store
    from gateway.usage.audit import audit

    source, target = backend_of(book.store), backend_of(StoreSettings("", url))
    with closing(source.open_sink(book.journal.dir)) as sink:
        recover(book.journal.dir, sink)
        with closing(sink.snapshot()) as snapshot:
            journal_id = copy_store(snapshot, url, _tell)
        # From now on the database knows this gateway by its journal's name.
        write_journal_id(Path(book.journal.dir) / JOURNAL_ID_FILE, journal_id)
        reports = []
        for side in (source.open_snapshot(), target.open_snapshot()):
            with closing(side):
                reports.append(audit(side))
    for name, report in zip((source.where, target.where), reports, strict=True):
        state = "clean" if report.is_clean else f"{len(report.differences)} differences"
        click.echo(
            f"audit of {name}: {state}; {report.events:,} events, {report.charges:,} charges,"
            f" {report.rollups:,} rollups, {report.balances:,} balances"
        )
    one, other = (replace(report, duration_us=0) for report in reports)
    if one != other:
        raise Failed("the two are not equal; do not go on with the copy")
    click.echo("equal; now put the URL under store.url and start the gateway")


def _tell(table: str, rows: int) -> None:
    click.echo(f"{table}: {rows:,} rows")


def _book(config: Path) -> Book:
    try:
        return load(config, os.environ).book
    except ConfigError as exc:
        raise Failed("\n".join(str(problem) for problem in exc.problems)) from None
