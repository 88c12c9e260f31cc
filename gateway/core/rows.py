"""What hot state and store tell each other at start and while running.

Plain rows; amounts in the meter's smallest unit, instants in microseconds.
"""

from __future__ import annotations

from typing import NamedTuple


class BalanceRow(NamedTuple):
    """One meter in one period: what was used, and what was topped up."""

    meter: str
    period_us: int
    used: int
    topped_up: int


class LimitState(NamedTuple):
    """A counter as it is kept; see `saved` in core/limits.py for `first` and `second`."""

    limit_id: str
    subject: str
    first: int
    second: int
    expires_us: int
