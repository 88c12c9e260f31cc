"""Metrics of several processes add up, and nothing is lost on the way."""

from __future__ import annotations

import random

from prometheus_client.exposition import generate_latest
from prometheus_client.registry import CollectorRegistry

from gateway.api.health import TallyCollector
from gateway.proxy.tally import RouteTally, Tally
from gateway.workers.figures import Counts, add, counts_of, tally_of


def tally(seed: int) -> Tally:
    chance = random.Random(seed)
    made = Tally()
    made.unmetered_requests = chance.randrange(9)
    made.unpriced_requests = chance.randrange(9)
    made.internal_errors = chance.randrange(9)
    for name in ("a", "b", f"only-{seed}"):
        made.refusals[name, "rate_limited"] = chance.randrange(1, 9)
        route = made.routes[name] = RouteTally()
        route.outcomes = {("charged", 200): 5 + seed, ("upstream_error", 502): seed}
        route.buckets = [chance.randrange(9) for _ in route.buckets]
        route.duration_us = chance.randrange(10**6)
        route.bytes_in, route.bytes_out = seed, 2 * seed
        route.charged = {"coins": 3 * seed, f"gold-{seed}": 1}
    return made


def text(shown: Tally) -> list[str]:
    registry = CollectorRegistry()
    registry.register(TallyCollector(shown, {"workers": 1}, "v", 0))
    return sorted(generate_latest(registry).decode().splitlines())


def test_a_tally_survives_as_counts() -> None:
    assert text(tally_of(counts_of(tally(1)))) == text(tally(1))
    assert text(tally_of(counts_of(Tally()))) == text(Tally())


def test_the_sum_has_every_figure_of_both() -> None:
    total: Counts = {}
    for seed in (1, 2):
        add(total, counts_of(tally(seed)))
    one, two, both = tally(1), tally(2), tally_of(total)
    assert both.internal_errors == one.internal_errors + two.internal_errors
    assert both.unmetered_requests == one.unmetered_requests + two.unmetered_requests
    assert both.unpriced_requests == one.unpriced_requests + two.unpriced_requests
    assert set(both.routes) == {"a", "b", "only-1", "only-2"}
    assert both.refusals["only-1", "rate_limited"] == one.refusals["only-1", "rate_limited"]
    for name in ("a", "b"):
        mine, yours, ours = one.routes[name], two.routes[name], both.routes[name]
        assert ours.outcomes == {("charged", 200): 13, ("upstream_error", 502): 3}
        assert ours.charged == {"coins": 9, "gold-1": 1, "gold-2": 1}
        assert ours.buckets == [x + y for x, y in zip(mine.buckets, yours.buckets, strict=True)]
        assert ours.duration_us == mine.duration_us + yours.duration_us
        assert (ours.bytes_in, ours.bytes_out) == (3, 6)


def test_every_count_of_a_tally_is_carried() -> None:
    """A figure that is added to the tally has to be added here, too."""
    assert set(vars(Tally())) == {
        *("routes", "refusals", "unmetered_requests", "unpriced_requests", "internal_errors"),
        *("_log", "_pending", "_samples", "_told"),
    }
    assert set(RouteTally.__slots__) == {
        *("outcomes", "buckets", "duration_us", "bytes_in", "bytes_out", "charged"),
    }
