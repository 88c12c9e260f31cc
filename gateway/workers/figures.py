"""The metrics of several processes as one: flat counts, which add up key by key.

A tally (proxy/tally.py) becomes a mapping of (figure, labels...) to a number and back.
Invariant: counts of one process only grow, so the sum of what living workers say and of
what ended ones had said last only grows, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from gateway.proxy.tally import RouteTally, Tally

Counts = dict[tuple[Any, ...], int]

_TOTALS = ("unmetered_requests", "unpriced_requests", "internal_errors")
_SUMS = ("duration_us", "bytes_in", "bytes_out")


class Figures(NamedTuple):
    """Of one worker. `gauges`: what is now, names as in api/health.py."""

    counts: Counts
    gauges: dict[str, float]


class Gathered(NamedTuple):
    """Of all workers of one supervisor."""

    counts: Counts  # also of those that have ended
    gauges: dict[str, float]
    restarts: int


def counts_of(tally: Tally) -> Counts:
    """Everything that a tally counts."""
    counts: Counts = {(name,): getattr(tally, name) for name in _TOTALS}
    counts |= {("refusals", *key): n for key, n in tally.refusals.items()}
    for name, route in tally.routes.items():
        counts |= _route_counts(name, route)
    return counts


def _route_counts(name: str, route: RouteTally) -> Iterator[tuple[tuple[Any, ...], int]]:
    yield from (((figure, name), getattr(route, figure)) for figure in _SUMS)
    yield from ((("outcomes", name, *key), n) for key, n in route.outcomes.items())
    yield from ((("buckets", name, at), n) for at, n in enumerate(route.buckets))
    yield from ((("charged", name, meter), n) for meter, n in route.charged.items())


def tally_of(counts: Counts) -> Tally:
    """A tally that says the same."""
    tally = Tally()
    for (figure, *labels), n in counts.items():
        if figure in _TOTALS:
            setattr(tally, figure, n)
        elif figure == "refusals":
            tally.refusals[labels[0], labels[1]] = n
        else:
            _put(tally.routes.setdefault(labels[0], RouteTally()), figure, labels[1:], n)
    return tally


def _put(route: RouteTally, figure: str, labels: list[Any], n: int) -> None:
    if figure in _SUMS:
        setattr(route, figure, n)
    elif figure == "outcomes":
        route.outcomes[labels[0], labels[1]] = n
    elif figure == "buckets":
        route.buckets[labels[0]] = n
    else:
        route.charged[labels[0]] = n


def add(total: dict[Any, Any], more: Mapping[Any, Any]) -> None:
    """Add numbers key by key."""
    for key, n in more.items():
        total[key] = total.get(key, 0) + n
