"""What the tests of retention begin with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.core.book import Archive, Retention
from gateway.core.events import Event
from gateway.core.periods import HOUR_US
from gateway.store.removal import Removal
from gateway.store.retention import Retainer
from tests.journal.making import store
from tests.store.retaining import (
    MINUTE_US,
    NOW_US,
    grant_lots,
    grid,
    written,
)
from tests.support.stores import backend


@pytest.fixture
def events(tmp_path: Path) -> list[Event]:
    """From December to March, dense around what cuts hours in January."""
    grant_lots(tmp_path)
    times = grid("2025-12-20T00:00:00", 5 * HOUR_US + 7 * MINUTE_US, 150)
    times += grid("2026-01-10T09:50:00", 2 * MINUTE_US + 1, 90)
    times += grid("2026-01-11T18:10:00", 3 * MINUTE_US // 2, 40)  # about acc1's midnight
    times += grid("2026-02-01T00:00:00", 11 * HOUR_US, 60)
    return written(tmp_path, sorted(times))


@pytest.fixture
def retain(tmp_path: Path, store_kind: str) -> Callable[..., Any]:
    """Run it, at NOW_US if not told otherwise."""

    def run(
        now_us: int = NOW_US, format: Any = "csv", home: Path = tmp_path, **more: Any
    ) -> list[Removal] | None:
        folder = None if format is None else Archive(str(home / "archive"), format)
        with store(home) as sink:
            kept = Retention(2, folder)
            return Retainer(backend(home), kept, sink.run, **more).retain(now_us)

    return run
