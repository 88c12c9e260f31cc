"""The limiters' arithmetic, with the clock given."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.limits import Concurrency, FixedWindow, RateLimit, TokenBucket

S = 1_000_000
Algorithm = Literal["gcra", "fixed_window", "concurrency"]


def limit(algorithm: Algorithm, quota: int, period_s: int = 0, burst: int = 1) -> RateLimit:
    return RateLimit("x", "account", algorithm, quota, period_s * S, burst)


def ask(counter: FixedWindow | TokenBucket | Concurrency, now_us: int) -> bool:
    fits = counter.fits(now_us)
    if fits:
        counter.take(now_us)
    return fits


def test_fixed_window_counts_and_starts_anew() -> None:
    window = FixedWindow(limit("fixed_window", 3, 60))
    assert [ask(window, t * S) for t in (60, 61, 119, 119)] == [True, True, True, False]
    figures = window.figures(119 * S)
    assert (figures.used, figures.remaining, figures.reset_us) == (3, 0, 120 * S)
    assert not ask(window, 120 * S - 1)
    assert ask(window, 120 * S)


def test_fixed_window_with_a_clock_that_goes_back() -> None:
    window = FixedWindow(limit("fixed_window", 1, 60))
    assert ask(window, 120 * S)
    assert not ask(window, 30 * S)


@pytest.mark.parametrize(
    ("steps", "wanted"),
    [
        # 2 per second, 3 at once: (at in ms, let in)
        ([0, 0, 0, 0], [True, True, True, False]),
        ([0, 0, 0, 499, 500, 500], [True, True, True, False, True, False]),
        ([0, 0, 0, 2000, 2000, 2000, 2000], [True] * 6 + [False]),
        ([1000, 1000, 1000, 0], [True, True, True, False]),
    ],
)
def test_token_bucket(steps: list[int], wanted: list[bool]) -> None:
    bucket = TokenBucket(limit("gcra", 2, 1, burst=3))
    assert [ask(bucket, 100 * S + at * 1000) for at in steps] == wanted


@given(
    st.integers(1, 50),
    st.integers(1, 100),
    st.integers(1, 20),
    st.lists(st.integers(0, 5 * S), max_size=120),
)
def test_token_bucket_never_gives_more(
    quota: int, period_s: int, burst: int, gaps: list[int]
) -> None:
    bucket = TokenBucket(limit("gcra", quota, period_s, burst))
    now, let_in = 1_000 * S, []
    for gap in gaps:
        now += gap
        if ask(bucket, now):
            let_in.append(now)
    for i, first in enumerate(let_in):
        for j in range(i, len(let_in)):
            allowed = burst + (let_in[j] - first) * quota // (period_s * S)
            assert j - i + 1 <= allowed


@given(st.integers(1, 9), st.integers(1, 60), st.lists(st.integers(0, 30 * S), max_size=80))
def test_figures_tell_the_truth(quota: int, period_s: int, gaps: list[int]) -> None:
    """At its reset a refusing limit lets in, a microsecond before it does not."""
    for counter in (
        FixedWindow(limit("fixed_window", quota, period_s)),
        TokenBucket(limit("gcra", quota, period_s, quota)),
    ):
        now = 10_000 * S
        for gap in gaps:
            now += gap
            before = counter.figures(now).remaining
            if ask(counter, now):
                assert before >= 1
                assert counter.left(now)[0] == before - 1
            else:
                reset = counter.figures(now).reset_us
                assert before == 0 and reset > now
                assert not counter.fits(reset - 1)
                assert counter.fits(reset)
                now = reset


def test_concurrency() -> None:
    gauge = Concurrency(limit("concurrency", 2))
    assert [ask(gauge, 0) for _ in range(3)] == [True, True, False]
    gauge.release()
    assert ask(gauge, 0)
    gauge.release()
    gauge.release()
    with pytest.raises(AssertionError):
        gauge.release()


def test_saved_and_loaded() -> None:
    for make, kind in ((FixedWindow, "fixed_window"), (TokenBucket, "gcra")):
        one = make(RateLimit("x", "account", kind, 3, 60 * S, 3))  # type: ignore[arg-type]
        assert all(ask(one, 61 * S) for _ in range(3))
        other = make(one.limit)
        other.load(*one.saved())
        assert not other.fits(61 * S)
        assert other.expires_us() == one.expires_us()
