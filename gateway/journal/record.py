"""How a record is written down, and read again.

A record is one line: CRC-32 of the rest as 8 hex digits, a JSON array, a newline.
    ["h", version, journal_id, first_seq, in_flight, position]          segment header
    ["o", seq, event_id, time_us, account, route, charges]              a request was admitted
    ["c", seq, label, event_id, time_us, source, path, status, outcome, charges,
          bytes_in, bytes_out, duration_us, upstream_us, request_id]    it was settled
    ["r", seq, [[time_us, account, route, operation, reason, count], ...]]  refusals, counted
`label` is the list of core.batch.LabelValues at its first use in a segment and from then
on its number there, counted from 0: the ten texts are most of an event's bytes. Charges are
[meter, amount] when admitted, [meter, amount, period_us] or [meter, amount, period_us, lot]
when settled.

Encoding never fails on text: a byte that was no UTF-8 (a surrogate escape) is written as
%XX, any other lone surrogate as U+FFFD. Records are at most RECORD_MAX_BYTES: texts are
cut, accounts and amounts never. Must not know files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from zlib import crc32

import orjson

from gateway.core.events import Refused
from gateway.core.units import AMOUNT_MAX

FORMAT_VERSION = 1
RECORD_SHIFT = 13
RECORD_MAX_BYTES = 1 << RECORD_SHIFT  # what an open reserves for its close
# So its charges, with periods added, fit a close beside cut texts and LOTS_MAX_BYTES of lots
# (gateway/store/ledger.py).
OPEN_MAX_BYTES = 1024
REFUSED_ROWS_MAX = 12  # 12 rows of 4 texts, cut to 24 and all escaped, still fit a record
CRC_CHARS = 8
CLOSE_MAX_BYTES = RECORD_MAX_BYTES - CRC_CHARS
# Integers beyond 53 bits are refused by the encoder, so that they come to `integer`.
OPTIONS = orjson.OPT_APPEND_NEWLINE | orjson.OPT_STRICT_INTEGER

TEXT_UNCUT = 1 << 30
_CUTS = (4096, 1024, 512, 128, 24)  # characters left of each text, tried in order


def seal(body: bytes) -> bytes:
    """The line for a body that ends in a newline."""
    return b"%08x%b" % (crc32(body), body)


def is_sealed(line: bytes) -> bool:
    """Whether a line, newline included, is complete and as it was written."""
    return line[-1:] == b"\n" and line[:CRC_CHARS] == b"%08x" % crc32(line[CRC_CHARS:])


def encode_open(
    seq: int, event_id: str, time_us: int, account: str, route: str, charges: Sequence[Any]
) -> bytes:
    """The slow way, for a record with nasty text or too long; see `_fitted` for errors."""
    amounts = _charges(charges)
    return _fitted(
        lambda cut: (
            *("o", seq, text(event_id, cut), integer(time_us)),
            *(text(account), text(route, cut), amounts),
        ),
        OPEN_MAX_BYTES,
    )


def encode_close(seq: int, label: int | Sequence[str], rest: Sequence[Any]) -> bytes:
    """The slow way; `rest` as in the record, from event_id on. The account is never cut."""

    def fields(cut: int) -> tuple[Any, ...]:
        names = label if isinstance(label, int) else [text(name, cut) for name in label]
        if not isinstance(label, int) and isinstance(names, list):
            names[0] = text(label[0])
        flat = [text(item, cut) if isinstance(item, str) else item for item in rest]
        flat = [integer(item) if isinstance(item, int) else item for item in flat]
        flat[6] = _charges(rest[6])
        return ("c", seq, names, *flat)

    return _fitted(fields, CLOSE_MAX_BYTES)


def encode_refused(seq: int, rows: Sequence[Refused]) -> bytes:
    """At most REFUSED_ROWS_MAX rows."""

    def fields(cut: int) -> tuple[Any, ...]:
        return ("r", seq, [[text(v, cut) if isinstance(v, str) else v for v in r] for r in rows])

    return _fitted(fields, CLOSE_MAX_BYTES)


def text(value: str, cut: int = TEXT_UNCUT) -> str:
    """Valid UTF-8 of at most `cut` characters."""
    try:
        value.encode()
    except UnicodeEncodeError:
        value = "".join(map(_clean_char, value))
    return value if len(value) <= cut else value[: cut - 1] + "…"


def integer(value: int) -> int:
    """Raises ValueError beyond 53 bits: prices and instants are bounded when they are made."""
    if not -AMOUNT_MAX <= value <= AMOUNT_MAX:
        raise ValueError(f"expected an integer of at most 53 bits, found {value}")
    return int(value)


def _fitted(fields: Callable[[int], tuple[Any, ...]], most_bytes: int) -> bytes:
    """The first encoding that fits, cutting texts shorter and shorter.

    Raises ValueError when it still does not fit: charges and account are never cut.
    """
    for cut in _CUTS:
        body = orjson.dumps(fields(cut), option=OPTIONS)
        if len(body) <= most_bytes:
            return body
    raise ValueError(f"a record of {len(body)} bytes: account name or charges are too long")


def _charges(charges: Sequence[Any]) -> list[list[Any]]:
    return [
        [text(item) if isinstance(item, str) else integer(item) for item in charge]
        for charge in charges
    ]


def _clean_char(char: str) -> str:
    code = ord(char)
    if not 0xD800 <= code <= 0xDFFF:
        return char
    return f"%{code - 0xDC00:02X}" if 0xDC80 <= code <= 0xDCFF else "\ufffd"
