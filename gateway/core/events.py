"""The event: one metered request, as journal, store and readers know it.

The field order below is the journal's and the store's column order; a new
field is added at the end, with a default, so that an old journal still reads.
"""

from __future__ import annotations

from typing import NamedTuple


class Posted(NamedTuple):
    """A settled charge: amount in the meter's smallest unit, its period and lot.

    `period_us` is the start of the allowance period in which the request was
    admitted; 0 when the account has no allowance of that meter.
    """

    meter: str
    amount: int
    period_us: int
    lot: str = ""  # which lot paid; "@..." counts in a further allowance and is no sum


class Event(NamedTuple):
    id: str  # UUIDv7
    time_us: int  # admitted at, microseconds since the epoch, UTC
    account: str  # "" when nobody could be named
    user: str
    project: str
    key_id: str
    caller: str  # api_key, browser, anonymous
    source: str  # client's address
    service: str  # upstream
    operation: str
    route: str
    method: str
    path: str  # without the query
    status: int  # sent to the client, 0 when none was
    outcome: str  # charged, free, upstream_error, client_gone, blocked:<limit>, ...
    charges: tuple[Posted, ...]
    bytes_in: int
    bytes_out: int
    duration_us: int
    upstream_us: int
    request_id: str
    book: str  # version of the configuration that priced it


class Refused(NamedTuple):
    """How often a refusal happened in one flush interval."""

    time_us: int
    account: str
    route: str
    operation: str
    reason: str  # blocked:<limit>, or refused:<code>
    times: int
