"""Rate limits as the script takes them, and what it says they stand at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from gateway.core.limits import Concurrency, Counter, FixedWindow, RateLimit, TokenBucket
from gateway.core.refusals import Refusal
from gateway.state.refusal import counter_row, refusal_of
from gateway.state.shared.link import Link


def limit_body(limit: RateLimit, key: str, lease_us: int) -> list[Any]:
    if limit.algorithm == "gcra":
        return ["g", key, limit.interval_us, limit.interval_us * limit.burst]
    if limit.algorithm == "fixed_window":
        return ["w", key, limit.period_us, limit.quota]
    return ["c", key, lease_us, limit.quota]


def as_taken(bodies: list[list[Any]], ends: Iterable[int], late_us: int = 0) -> list[list[Any]]:
    """To be given back: windows as long as they have these ends, which they were taken in; of
    token buckets less what has come again since an instant, if there is one.
    """
    left, found = iter(ends), []
    for body in bodies:
        if body[0] == "w":
            body = [*body, next(left)]
        elif body[0] == "g" and late_us:
            body = [*body, late_us]
        found.append(body)
    return found


def tell_counters(counters: Sequence[Counter], figures: list[int]) -> None:
    """What the server says they stand at."""
    for n, counter in enumerate(counters):
        first, second = figures[2 * n], figures[2 * n + 1]
        if isinstance(counter, TokenBucket):
            counter.tat_us = first
        elif isinstance(counter, FixedWindow):
            counter.end_us, counter.count = first, second
        elif isinstance(counter, Concurrency):
            counter.in_flight = first


def give_back(counter: Counter) -> None:
    """What `take` counted, of a request that something else refused."""
    if isinstance(counter, TokenBucket):
        counter.tat_us -= counter.interval_us
    elif isinstance(counter, FixedWindow):
        counter.count = max(0, counter.count - 1)
    elif isinstance(counter, Concurrency):
        counter.in_flight = max(0, counter.in_flight - 1)


def let_go(link: Link, hold_id: str, gauges: Sequence[str]) -> None:
    """Limits of requests in flight, by their keys, count this one no more."""
    link.tell(["untake", [hold_id], [["c", key] for key in gauges]], tuple(gauges))


def refusal_by(counters: list[Counter], now_us: int) -> Refusal:
    rows = [counter_row(counter, now_us) for counter in counters]
    if not any(row.refused for row in rows):
        # It has begun anew since; the one with the least left is told.
        tightest = min(rows, key=lambda row: row.remaining or 0)
        rows = [replace(row, refused=True) if row is tightest else row for row in rows]
    return refusal_of(rows, [], now_us)
