"""Counting what happens: metrics, refusals, and one log line per kind of incident.

Plain integers and dictionaries on the request path; prometheus_client reads
them only when it is asked (api/health.py). Refusals are counted in memory and
handed to the journal once a second, so a flood of them fills neither the disk
nor the log. Labels are route names and codes, never accounts, keys or paths.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

from gateway.core.events import Refused
from gateway.core.periods import HOUR_US
from gateway.core.refusals import Refusal
from gateway.core.rows import CAP_MARK
from gateway.proxy.exchange import Exchange

# Seconds; a histogram of whole requests. The last bucket is "longer".
BUCKETS_US = (
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000, 60_000_000,
)  # fmt: skip
# Different refusals (account, route, reason) in one second; the rest is one row.
REFUSALS_MAX = 2_000
# Refusals that are logged with their details, per flush.
SAMPLES_MAX = 20

Log = Callable[..., object]


class RouteTally:
    """One route's figures."""

    __slots__ = ("outcomes", "buckets", "duration_us", "bytes_in", "bytes_out", "charged")

    def __init__(self) -> None:
        self.outcomes: dict[tuple[str, int], int] = {}
        self.buckets = [0] * (len(BUCKETS_US) + 1)
        self.duration_us = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.charged: dict[str, int] = {}


class Tally:
    """All figures of one process."""

    def __init__(self, log: Log | None = None) -> None:
        self.routes: dict[str, RouteTally] = {}
        self.refusals: dict[tuple[str, str], int] = {}
        self.unmetered_requests = 0
        self.unpriced_requests = 0
        self.internal_errors = 0
        self._log = log
        # By hour too: a refusal belongs to the hour, and so the month, in which it was.
        self._pending: dict[tuple[str, str, str, str, int], int] = {}
        self._samples: list[dict[str, object]] = []
        self._told: set[str] = set()

    def settled(self, x: Exchange, now_us: int) -> None:
        """An admitted request has ended."""
        route = self.routes.get(x.route.name)
        if route is None:
            route = self.routes[x.route.name] = RouteTally()
        duration_us = now_us - x.time_us
        key = (x.outcome, x.status)
        route.outcomes[key] = route.outcomes.get(key, 0) + 1
        route.buckets[bisect_left(BUCKETS_US, duration_us)] += 1
        route.duration_us += duration_us
        route.bytes_in += x.bytes_in
        route.bytes_out += x.bytes_out
        charged = route.charged
        for posting in x.postings:
            # What counts in a further allowance is no charge of its own.
            if len(posting) == 3 or posting[3][0] != CAP_MARK:
                charged[posting[0]] = charged.get(posting[0], 0) + posting[1]
        if x.outcome == "free" and x.route is x.book.unmatched:
            self.unpriced_requests += 1

    def unmetered(self, x: Exchange) -> None:
        """A request was forwarded that could not be recorded."""
        self.unmetered_requests += 1

    def refused(self, x: Exchange, refusal: Refusal) -> None:
        """A request was refused by a rule."""
        caller = getattr(x, "caller", None)
        route = getattr(x, "route", None)
        account = caller.account.account.id if caller is not None else ""
        self._count(
            x,
            refusal,
            account,
            route.name if route is not None else "",
            route.operation if route is not None else "",
        )

    def malformed(self, x: Exchange, refusal: Refusal) -> None:
        """A request could not be understood."""
        self._count(x, refusal, "", "", "")

    def broken(self, x: Exchange, exc: Exception) -> None:
        """The gateway itself failed at a request."""
        self.internal_errors += 1
        if self._log is not None:
            self._log("internal_error", request_id=x.request_id, exc_info=exc)

    def trouble(self, what: str, exc: Exception) -> None:
        """Something behind the gateway does not answer; the log says it once a flush."""
        said = f"{what} {exc}"
        if self._log is not None and said not in self._told:
            self._told.add(said)
            self._log(what, level="error", error=str(exc))

    def broken_connection(self, exc: Exception) -> None:
        """A connection's own code failed; it is closed."""
        self.internal_errors += 1
        if self._log is not None:
            self._log("internal_error", exc_info=exc)

    def unparsable(self) -> None:
        """Bytes came that are no request at all."""
        self._bump("", "", "", "refused:bad_request", 0)
        self.refusals["", "bad_request"] = self.refusals.get(("", "bad_request"), 0) + 1

    def _count(self, x: Exchange, refusal: Refusal, account: str, route: str, op: str) -> None:
        reason = refusal.reason
        self.refusals[route, refusal.code] = self.refusals.get((route, refusal.code), 0) + 1
        is_new = self._bump(account, route, op, reason, x.time_us)
        if is_new and len(self._samples) < SAMPLES_MAX:
            self._samples.append(
                {
                    "request_id": x.request_id,
                    "account": account,
                    "route": route,
                    "reason": reason,
                    "status": x.status,
                    "source": x.source,
                    "method": x.method,
                    "detail": refusal.detail,
                }
            )

    def _bump(self, account: str, route: str, operation: str, reason: str, time_us: int) -> bool:
        hour_us = time_us - time_us % HOUR_US
        key = (account, route, operation, reason, hour_us)
        if key not in self._pending and len(self._pending) >= REFUSALS_MAX:
            key = ("", "", "", "refused:many", hour_us)
        count = self._pending.get(key, 0)
        self._pending[key] = count + 1
        return count == 0

    def flush(self, now_us: int) -> list[Refused]:
        """The refusals since the last flush; logs their samples."""
        rows = [
            Refused(hour_us or now_us, account, route, operation, reason, count)
            for (account, route, operation, reason, hour_us), count in self._pending.items()
        ]
        if self._log is not None:
            for sample in self._samples:
                self._log("refused", **sample)
        self._pending.clear()
        self._samples.clear()
        self._told.clear()
        return rows
