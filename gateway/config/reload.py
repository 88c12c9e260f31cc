"""A configuration that is loaded again while a gateway runs: what of it may be taken?

All or nothing: a wrong one, or one that would give recorded figures another meaning, is
refused as a whole. What cannot change without a restart stays as it was, and is named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from gateway.config.load import Loaded, load
from gateway.config.problems import ConfigError
from gateway.core.book import Book
from gateway.core.reload import Heard

Log = Callable[..., object]

FIXED = ("proxy_listener", "admin_listener", "data_dir", "journal", "store", "state")
# As the configuration calls them, where the book has another name.
KEYS = {"proxy_listener": "listeners.proxy", "admin_listener": "listeners.admin"}
FIXED_ALONE = (*FIXED, "workers")  # of one process, which is no supervisor


def load_again(
    path: Path, env: Mapping[str, str], before: Book, log: Log, fixed: tuple[str, ...] = FIXED
) -> Book | None:
    """The book to go on with; None when the one before stays. The log says why."""
    try:
        loaded = load(path, env)
    except ConfigError as exc:
        problems = [str(problem) for problem in exc.problems]
        log("reload_refused", level="error", problems=problems)
        return None
    log_warnings(loaded, log)
    rescaled = _rescaled(before, loaded.book)
    if rescaled:
        log("reload_refused", level="error", problems=rescaled)
        return None
    return _keep_fixed(before, loaded.book, log, fixed)


def is_needed(heard: Heard, before: Book, book: Book) -> bool:
    """Whether what was read because of another gateway is to be used.

    At a start the file has just been read, and what is heard may be long ago.
    """
    return not (heard.at_start and book.version == before.version)


def log_difference(heard: Heard, book: Book, log: Log) -> None:
    """Other rules than another gateway's apply here, though the file has been read."""
    if heard.rules_version != book.rules_version:
        log("configuration_differs", level="warning", expected=heard.version, found=book.version)


def log_warnings(loaded: Loaded, log: Log) -> None:
    """What an operator should have decided on purpose."""
    for warning in loaded.warnings:
        log("configuration_warning", level="warning", warning=str(warning))


def _rescaled(before: Book, book: Book) -> list[str]:
    """Meters whose figures would mean something else."""
    return [
        f"meters.{name}.decimals: expected {meter.decimals}, in which its figures are kept,"
        f" found {book.meters[name].decimals}; give the meter another name"
        for name, meter in before.meters.items()
        if name in book.meters and book.meters[name].decimals != meter.decimals
    ]


def _keep_fixed(before: Book, book: Book, log: Log, fixed: tuple[str, ...]) -> Book:
    changed = [name for name in fixed if getattr(book, name) != getattr(before, name)]
    if not changed:
        return book
    log("needs_restart", level="warning", changed=[KEYS.get(name, name) for name in changed])
    return replace(book, **{name: getattr(before, name) for name in changed})
