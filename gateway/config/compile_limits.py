"""Meters and limits -> the book's integers."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.config.draft import Draft, Where
from gateway.config.models_limits import LimitModel
from gateway.core.book import Meter
from gateway.core.limits import RateLimit
from gateway.core.periods import Period

_SECOND_US = 1_000_000


def compile_meters(draft: Draft) -> dict[str, Meter]:
    return {
        name: Meter(name, model.decimals, model.title or name, Period(model.per))
        for name, model in draft.config.meters.items()
    }


def compile_limits(
    draft: Draft, models: Mapping[str, LimitModel], path: Where, scope: str
) -> tuple[RateLimit, ...]:
    """Limits in the order in which they are written; `scope` begins their ids."""
    limits = (
        _limit(draft, name, model, (*path, name), f"{scope}/{name}")
        for name, model in models.items()
    )
    return tuple(limit for limit in limits if limit is not None)


def _limit(
    draft: Draft, name: str, model: LimitModel, path: Where, limit_id: str
) -> RateLimit | None:
    if model.settable is not None:
        hint = "only a plan's limits can be each account's own"
        draft.expected((*path, "settable"), "no `settable:` here", hint)
        return None
    for key in ("default", "window"):
        if draft.has(*path, key):
            draft.expected((*path, key), f"no `{key}:` without `settable:`")
    if model.concurrent is not None:
        return _concurrency(draft, name, model, path, limit_id)
    if model.rate is None:
        draft.absent(path, "`rate:` or `concurrent:`")
        return None
    quota, period_us = model.rate
    burst = quota
    if model.algorithm == "gcra":
        burst = model.burst or max(1, -(-quota * _SECOND_US // period_us))
    elif model.burst is not None:
        draft.expected((*path, "burst"), "no burst with fixed_window", "it needs algorithm: gcra")
    window_s = max(1, period_us // _SECOND_US)
    policy = f'"{name}";q={quota};w={window_s}'.encode()
    return RateLimit(name, model.per, model.algorithm, quota, period_us, burst, limit_id, policy)


def _concurrency(
    draft: Draft, name: str, model: LimitModel, path: Where, limit_id: str
) -> RateLimit:
    for key in ("rate", "algorithm", "burst"):
        if draft.has(*path, key):
            draft.expected((*path, key), f"no `{key}:` beside `concurrent:`", "make it two limits")
    quota = model.concurrent or 1
    # `qu` is the draft's quota unit; such a limit has no window.
    policy = f'"{name}";q={quota};qu="concurrent-requests"'.encode()
    return RateLimit(name, model.per, "concurrency", quota, 0, quota, limit_id, policy)
