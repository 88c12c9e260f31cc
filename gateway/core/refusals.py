"""Every refusal the gateway can give: code, status, title and remedy, one table.

A refusal is a value. The order in which the path refuses is in
docs/request-path.md; the table is grouped by what a code is about. 401 is the
key, 403 what the key may do, 404/405 the route, 413 the body, 429 a rate or (by
default) a budget, 402 a budget where configured, 502/504 the backend, 503 the
gateway itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

TYPE_BASE = "https://tallygate.dev/problems/"


class Kind(NamedTuple):
    """What is always the same about one refusal code."""

    status: int
    title: str
    remedy: str


KINDS: dict[str, Kind] = {
    # the request itself
    "bad_request": Kind(400, "Bad request", "Send an unambiguous HTTP/1.1 request."),
    "expectation_failed": Kind(417, "Expectation failed", "Only 'Expect: 100-continue' is known."),
    "not_implemented": Kind(501, "Not implemented", "Use another method."),
    "version_not_supported": Kind(505, "HTTP version not supported", "Use HTTP/1.1 or HTTP/1.0."),
    "head_too_large": Kind(431, "Request head too large", "Send fewer or shorter headers."),
    "request_timeout": Kind(408, "Request timeout", "Send the request without pauses."),
    "shutting_down": Kind(503, "Shutting down", "Try again on a new connection."),
    "too_many_connections": Kind(503, "Too many connections", "Use fewer connections."),
    # who calls
    "auth_rate_limited": Kind(429, "Too many bad credentials", "Wait, then use a valid key."),
    "unauthorized": Kind(401, "No API key", "Send a key, for example 'Authorization: Bearer KEY'."),
    "key_invalid": Kind(401, "Invalid API key", "Check the key, or ask for a new one."),
    "key_expired": Kind(401, "API key expired", "Use the key that replaced it."),
    "forbidden_network": Kind(403, "Source network not allowed", "Call from an allowed network."),
    "account_disabled": Kind(403, "Account disabled", "Ask the operator to enable the account."),
    # what is called
    "route_not_found": Kind(404, "No such route", "Check the path."),
    "method_not_allowed": Kind(405, "Method not allowed", "Use a method of the Allow header."),
    "caller_not_allowed": Kind(403, "Not for this kind of caller", "Call with an API key."),
    "forbidden_route": Kind(403, "Route not allowed", "Use a key that may call this route."),
    "feature_disabled": Kind(403, "Feature disabled", "Ask who may to enable it."),
    "body_too_large": Kind(413, "Body too large", "Send a smaller body."),
    "unpriceable": Kind(
        400, "Cannot be priced", "Send what the price of this route is counted by."
    ),
    # how often and how much
    "concurrency_limited": Kind(429, "Too many requests in flight", "Wait for answers first."),
    "rate_limited": Kind(429, "Rate limit reached", "Wait until the limit resets."),
    "budget_exhausted": Kind(429, "Budget exhausted", "Wait for the next period or top up."),
    "spending_cap_reached": Kind(402, "Spending cap reached", "Raise the cap or wait for it."),
    # the gateway and the backend
    "journal_full": Kind(503, "Cannot record usage", "Try again later."),
    "store_unavailable": Kind(503, "Store unavailable", "Try again later."),
    "upstream_unreachable": Kind(502, "Backend unreachable", "Try again later."),
    "upstream_error": Kind(502, "Backend answered wrongly", "Try again later."),
    "upstream_timeout": Kind(504, "Backend timed out", "Try again later."),
    "internal_error": Kind(500, "Internal error", "Report the request id to the operator."),
}


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One limit that was looked at, with its figures in the meter's or limit's unit."""

    name: str
    kind: str  # rate, concurrency, budget, spending
    limit: int | str | None  # None: no limit
    used: int | str
    remaining: int | str | None
    reset_us: int
    refused: bool
    meter: str = ""  # of a budget


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not forwarded; turned into HTTP in one place only."""

    code: str
    detail: str = ""
    status: int | None = None  # other than the kind's
    retry_after_s: int | None = None
    limits: tuple[Evaluated, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def reason(self) -> str:
        """The outcome that events and counters show, e.g. "blocked:hourly"."""
        for limit in self.limits:
            if limit.refused:
                return f"blocked:{limit.name}"
        return f"refused:{self.code}"
