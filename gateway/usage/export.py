"""Activity as CSV: which rows, which columns, and cells that are safe to open.

A spreadsheet runs a cell that begins with =, +, -, @ (also in their full width)
or a control character; such a cell gets an apostrophe in front (OWASP, CSV
injection). Rows come one by one, so that an export of any length takes constant
memory. Must not know HTTP or SQL.
"""

from __future__ import annotations

import csv
import io
from calendar import monthrange
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import NamedTuple
from zoneinfo import ZoneInfo

from gateway.core.book import Meter
from gateway.core.events import Event
from gateway.core.rows import is_cap_lot
from gateway.core.units import format_amount
from gateway.store.reports import ActivityFilter
from gateway.usage.activity import parse_query

MONTHS_MAX = 3
ROWS_A_PIECE = 500
YEARS = (1970, 9998)  # that a range may touch
_DANGEROUS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_OWN = ("meter", "timezone")


class ExportQuery(NamedTuple):
    wanted: ActivityFilter
    meter: Meter
    zone: tzinfo


def parse_export(parameters: Mapping[str, str], meters: Mapping[str, Meter]) -> ExportQuery:
    """From decoded query parameters: filters, `from` and `to`, `meter`, `timezone`.

    `meter` is the one of the last column; times are written, and dates read, in `timezone`.
    Raises ValueError saying which parameter, what was expected and found.
    """
    filters = {name: value for name, value in parameters.items() if name not in _OWN}
    for name in ("limit", "cursor"):
        if name in filters:
            raise ValueError(f"{name}: expected no pages, an export has all rows")
    zone = _zone(parameters)
    wanted = parse_query(filters, zone).wanted
    if wanted.from_us is None or wanted.to_us is None:
        raise ValueError("from, to: expected a range such as from=2026-01-01&to=2026-04-01")
    if wanted.to_us < wanted.from_us:
        raise ValueError("to: expected an instant after `from`")
    for name, time_us in (("from", wanted.from_us), ("to", wanted.to_us)):
        if not YEARS[0] <= datetime.fromtimestamp(time_us // 1_000_000, UTC).year <= YEARS[1]:
            raise ValueError(f"{name}: expected a year from {YEARS[0]} to {YEARS[1]}")
    if wanted.to_us > _months_later(wanted.from_us, MONTHS_MAX, zone):
        raise ValueError(f"to: expected a range of up to {MONTHS_MAX} months after `from`")
    return ExportQuery(wanted, _meter(parameters, meters), zone)


def _months_later(time_us: int, months: int, zone: tzinfo) -> int:
    """The same time of the same day some months on, or of the last day of that month."""
    moment = datetime.fromtimestamp(time_us // 1_000_000, zone)
    year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    day = min(moment.day, monthrange(year, month + 1)[1])
    later = moment.replace(year=year, month=month + 1, day=day)
    return int(later.timestamp()) * 1_000_000 + time_us % 1_000_000


def _meter(parameters: Mapping[str, str], meters: Mapping[str, Meter]) -> Meter:
    name = parameters.get("meter") or next(iter(meters), "")
    if name not in meters:
        raise ValueError(f"meter: expected one of {', '.join(meters)}, found {name[:64]!r}")
    return meters[name]


def _zone(parameters: Mapping[str, str]) -> tzinfo:
    name = parameters.get("timezone", "UTC")
    try:
        return UTC if name == "UTC" else ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        text = f"timezone: expected a name such as Europe/Kyiv, found {name[:64]!r}"
        raise ValueError(text) from None


def columns(meter: Meter) -> list[str]:
    """The usual titles; the last is what the meter is called, as in `coin cost`."""
    title = (meter.title or meter.name).lower()
    singular = title[:-1] if title.endswith("s") and not title.endswith("ss") else title
    return ["timestamp", "user", "event type", "source", "service", "operation", f"{singular} cost"]


def csv_pieces(
    events: Iterable[Event], query: ExportQuery, titles: Sequence[str] | None = None
) -> Iterator[bytes]:
    """The file in pieces, none empty; `titles`, seven, instead of the usual ones."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(titles or columns(query.meter))
    for rows, event in enumerate(events, 1):
        writer.writerow([safe_cell(cell) for cell in _row(event, query)])
        if rows % ROWS_A_PIECE == 0:
            yield text.getvalue().encode("utf-8", "replace")
            text.seek(0)
            text.truncate()
    if text.tell():
        yield text.getvalue().encode("utf-8", "replace")


def _row(event: Event, query: ExportQuery) -> tuple[str, ...]:
    cost = sum(
        charge.amount
        for charge in event.charges
        if charge.meter == query.meter.name and not is_cap_lot(charge.lot)
    )
    moment = datetime.fromtimestamp(event.time_us // 1_000_000, query.zone)
    moment = moment.replace(microsecond=event.time_us % 1_000_000)
    return (
        moment.isoformat().replace("+00:00", "Z"),
        event.user,
        event.outcome,
        event.source,
        event.service,
        event.operation,
        format_amount(cost, query.meter.decimals),
    )


def safe_cell(text: str) -> str:
    """A cell that no spreadsheet runs."""
    return f"'{text}" if text.startswith(_DANGEROUS) else text
