"""Rate and concurrency limits: the arithmetic, with the clock given.

Three algorithms, all on integers (microseconds):
gcra          a token bucket written as one instant, the theoretical arrival
              time (TAT); source: ITU-T I.371, "virtual scheduling".
fixed_window  a counter that starts anew at each multiple of the period.
concurrency   requests in flight.

A subject's state is a small object of its own; `peek` asks, `take` counts.
Nothing is counted when one limit of a request refuses, so asking and counting
are two steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Subject = Literal["key", "account", "user", "project", "source", "route", "all"]
Algorithm = Literal["gcra", "fixed_window", "concurrency"]


@dataclass(frozen=True, slots=True)
class RateLimit:
    """`quota` requests per `period_us`, counted for each value of `subject`.

    gcra: `quota` per period on average, at most `burst` at once.
    concurrency: `quota` requests in flight; `period_us` is 0.
    """

    name: str
    subject: Subject
    algorithm: Algorithm
    quota: int
    period_us: int
    burst: int
    id: str = ""  # unique in the book: "plan/free/hourly"; key of the hot state
    policy: bytes = field(default=b"", compare=False)  # its RateLimit-Policy member
    label: bytes = field(default=b"", compare=False)  # the name as header bytes

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", self.name.encode())

    @property
    def interval_us(self) -> int:
        """GCRA's emission interval; rounded up, so never more than the quota."""
        return -(-self.period_us // self.quota)


class Figures:
    """What a limit has to say for itself at an instant; amounts are requests.

    `reset_us` is the instant from which the quota is whole again, or for a
    refused request the first instant at which asking again can succeed.
    """

    __slots__ = ("limit", "used", "remaining", "reset_us")

    def __init__(self, limit: int, used: int, remaining: int, reset_us: int) -> None:
        self.limit = limit
        self.used = used
        self.remaining = remaining
        self.reset_us = reset_us

    def __repr__(self) -> str:
        return f"<Figures {self.used}/{self.limit} left {self.remaining} reset {self.reset_us}>"


class FixedWindow:
    """A counter for one subject; windows begin at multiples of the period."""

    __slots__ = ("limit", "quota", "end_us", "count", "is_unsaved")

    def __init__(self, limit: RateLimit) -> None:
        self.bind(limit)
        self.end_us = 0
        self.count = 0
        self.is_unsaved = False

    def bind(self, limit: RateLimit) -> None:
        """Go on under another limit of the same kind; a new period begins anew."""
        self.limit = limit
        self.quota = limit.quota

    def fits(self, now_us: int) -> bool:
        # A clock that goes back does not open an old window again.
        if now_us >= self.end_us:
            period_us = self.limit.period_us
            self.end_us = now_us - now_us % period_us + period_us
            self.count = 0
        return self.count < self.quota

    def take(self, now_us: int) -> None:
        self.count += 1

    def figures(self, now_us: int) -> Figures:
        self.fits(now_us)  # a new window, if it is time for one
        return Figures(self.quota, self.count, max(0, self.quota - self.count), self.end_us)

    def left(self, now_us: int) -> tuple[int, int]:
        """What is left, and when it is whole again; for a request that was let in."""
        return self.quota - self.count, self.end_us

    def saved(self) -> tuple[int, int]:
        """The state as two integers, for the store."""
        return self.end_us, self.count

    def load(self, first: int, second: int) -> None:
        self.end_us, self.count = first, second

    def expires_us(self) -> int:
        """From then on this object says what a new one would."""
        return self.end_us


class TokenBucket:
    """GCRA for one subject: `tat_us` is when the bucket would be full again."""

    __slots__ = ("limit", "interval_us", "tolerance_us", "tat_us", "is_unsaved")

    def __init__(self, limit: RateLimit) -> None:
        self.bind(limit)
        self.tat_us = 0
        self.is_unsaved = False

    def bind(self, limit: RateLimit) -> None:
        """Go on under another limit of the same kind."""
        self.limit = limit
        self.interval_us = limit.interval_us
        self.tolerance_us = limit.interval_us * limit.burst

    def fits(self, now_us: int) -> bool:
        return max(self.tat_us, now_us) + self.interval_us - now_us <= self.tolerance_us

    def take(self, now_us: int) -> None:
        self.tat_us = max(self.tat_us, now_us) + self.interval_us

    def figures(self, now_us: int) -> Figures:
        backlog_us = max(self.tat_us - now_us, 0)
        remaining = max(0, (self.tolerance_us - backlog_us) // self.interval_us)
        reset_us = now_us + backlog_us
        if remaining == 0:
            reset_us = now_us + backlog_us + self.interval_us - self.tolerance_us
        return Figures(self.limit.burst, self.limit.burst - remaining, remaining, reset_us)

    def left(self, now_us: int) -> tuple[int, int]:
        """What is left, and when the bucket is full again."""
        backlog_us = max(self.tat_us - now_us, 0)
        return (self.tolerance_us - backlog_us) // self.interval_us, now_us + backlog_us

    def saved(self) -> tuple[int, int]:
        return self.tat_us, 0

    def load(self, first: int, second: int) -> None:
        self.tat_us = first

    def expires_us(self) -> int:
        return self.tat_us


class Concurrency:
    """Requests in flight of one subject."""

    __slots__ = ("limit", "in_flight", "is_unsaved")

    def __init__(self, limit: RateLimit) -> None:
        self.bind(limit)
        self.in_flight = 0
        self.is_unsaved = False

    def bind(self, limit: RateLimit) -> None:
        """Go on under another limit; what is in flight still is."""
        self.limit = limit

    def fits(self, now_us: int) -> bool:
        return self.in_flight < self.limit.quota

    def take(self, now_us: int) -> None:
        self.in_flight += 1

    def release(self) -> None:
        assert self.in_flight > 0, "released more often than taken"
        self.in_flight -= 1

    def figures(self, now_us: int) -> Figures:
        quota = self.limit.quota
        # A second is a guess: the limit opens when any request in flight ends.
        wait_us = 1_000_000 if self.in_flight >= quota else 0
        return Figures(quota, self.in_flight, max(0, quota - self.in_flight), now_us + wait_us)

    def left(self, now_us: int) -> tuple[int, int]:
        """How many more may be in flight; it has no instant of its own."""
        return self.limit.quota - self.in_flight, now_us

    def saved(self) -> tuple[int, int]:
        return 0, 0

    def load(self, first: int, second: int) -> None:
        """Requests in flight end with their process; nothing is kept."""

    def expires_us(self) -> int:
        return 0 if self.in_flight == 0 else 1 << 62


Counter = FixedWindow | TokenBucket | Concurrency
COUNTERS: dict[str, type[FixedWindow] | type[TokenBucket] | type[Concurrency]] = {
    "fixed_window": FixedWindow,
    "gcra": TokenBucket,
    "concurrency": Concurrency,
}
