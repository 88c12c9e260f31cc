"""Events leave the store after their time: into files first, where an archive is configured.

Invariants: what is removed from the store is in a finished file, or was to be dropped;
after a crash at any step a rerun comes to the same end, with each event in one place. What
events added up to stays. Must not run on the event loop, and must not know SQL.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from typing import NamedTuple

from gateway.core.book import Archive, Retention
from gateway.core.instants import iso
from gateway.core.periods import Span
from gateway.store import archive as archives
from gateway.store.archive import MonthFiles
from gateway.store.backend import Backend
from gateway.store.fitting import kept_decimals
from gateway.store.removal import (
    Page,
    Removal,
    Remover,
    count_events,
    due_months,
    kept_from_us,
    month_name,
    next_part,
    pages,
    removals,
)
from gateway.store.removal_sqlite import Run

COPIES_MAX = 3  # of a month that gets late events meanwhile; then it is left for the next time

Log = Callable[..., None]  # a fact, its level, its figures


class Due(NamedTuple):
    """A month that is to be removed; `archive` names its manifest, "" when it is dropped."""

    month: str
    events: int
    archive: str


class Plan(NamedTuple):
    kept_from: str  # what is older goes
    months: list[Due]
    unfinished: list[str]  # months whose removal was cut short


class Retainer:
    """Removes what is older than configured. `run_change` is the store's one writer's."""

    def __init__(
        self,
        backend: Backend,
        settings: Retention,
        run_change: Run,
        rest: Callable[[], None] = lambda: None,
        log: Log = lambda fact, **figures: None,
    ) -> None:
        """Raises StoreError where the archive cannot be written.

        `rest` is called between pages; whatever it raises ends the run.
        """
        if settings.archive is not None:
            archives.prepare(settings.archive)
        self._backend = backend
        self._settings = settings
        self._run_change = run_change
        self._rest = rest
        self._log = log

    def retain(self, now_us: int) -> list[Removal] | None:
        """Remove what is due; None when another process is at it.

        Raises StoreError, OSError, one of ERRORS.
        """
        before_us = kept_from_us(self._settings.months, now_us)
        with closing(self._backend.open_remover(self._run_change)) as remover:
            if not remover.take_turn():
                return None
            done = remover.resume(self._rest)
            for span in due_months(remover.connection, before_us):
                removal = self._remove_month(remover, span, now_us)
                if removal is None:
                    self._log("month_not_removed", level="warning", month=month_name(span.start_us))
                    break  # older ones go first, so that one instant says what is left
                done.append(removal)
            remover.tidy(before_us)
        for removal in done:
            names = ("month", "part", "events", "charges", "archive")
            self._log("month_removed", **{name: getattr(removal, name) for name in names})
        return done

    def _remove_month(self, remover: Remover, span: Span, now_us: int) -> Removal | None:
        """None when it got late events each time, or is in use."""
        for _ in range(COPIES_MAX):
            removal = self._copy(remover, span, now_us)
            if not removal.events:
                return None  # events without a label, which only the audit can tell of
            outcome = remover.remove(removal, self._rest)
            if outcome == "removed":
                return removal
            if outcome == "busy":
                break
        return None

    def _copy(self, remover: Remover, span: Span, now_us: int) -> Removal:
        """Write the archive's files, or count; what is then to be removed."""
        top_seq = remover.top_seq()
        part = next_part(remover.connection, span.start_us)
        sink = self._sink(remover, span, part)
        try:
            for page in pages(remover, span, top_seq):
                sink.write(page)
                self._rest()
            manifest = sink.finish(kept_decimals(remover.connection))
        except BaseException:
            sink.discard()
            raise
        counts = (sink.events, sink.charges)
        return Removal(span.start_us, part, manifest, top_seq, *counts, now_us, is_done=1)

    def _sink(self, remover: Remover, span: Span, part: int) -> MonthFiles | Counter:
        archive = self._settings.archive
        if archive is None:
            return Counter()
        return MonthFiles(archive, remover.store_id, month_name(span.start_us), part)


class Counter:
    """Instead of files, where events are dropped."""

    def __init__(self) -> None:
        self.events = self.charges = 0

    def write(self, page: Page) -> None:
        self.events += len(page.events)
        self.charges += len(page.charges)

    def finish(self, decimals: Mapping[str, int]) -> str:
        return ""

    def discard(self) -> None:
        """Nothing was begun."""


def plan(backend: Backend, settings: Retention, now_us: int) -> Plan:
    """What `Retainer.retain` would do; changes nothing. Raises StoreError, one of ERRORS."""
    before_us = kept_from_us(settings.months, now_us)
    with closing(backend.open_reader()) as connection:
        found = []
        for span in due_months(connection, before_us):
            name = _manifest(settings.archive, span, next_part(connection, span.start_us))
            found.append(Due(month_name(span.start_us), count_events(connection, span), name))
        unfinished = [removal.month for removal in removals(connection) if not removal.is_done]
    return Plan(iso(before_us), found, unfinished)


def _manifest(archive: Archive | None, span: Span, part: int) -> str:
    if archive is None:
        return ""
    return archives.manifest_name(archives.part_name(month_name(span.start_us), part))
