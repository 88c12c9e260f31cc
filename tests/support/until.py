"""Waiting for something to become true, with a deadline and without guessing.

A test never sleeps to let something happen: it asks again until the answer is
there, and fails with what it saw last when the deadline has passed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PATIENCE_S = 15.0  # far longer than anything takes here, for a busy machine
_PAUSE_S = 0.01


def until(
    ask: Callable[[], T],
    enough: Callable[[T], bool] = bool,
    *,
    what: str = "the condition",
    deadline_s: float = PATIENCE_S,
) -> T:
    """Ask until the answer is enough, and return it. Raises AssertionError when it never was."""
    give_up = time.monotonic() + deadline_s
    while True:
        seen = ask()
        if enough(seen):
            return seen
        if time.monotonic() > give_up:
            raise AssertionError(f"{what} did not come within {deadline_s} s; seen last: {seen!r}")
        time.sleep(_PAUSE_S)
