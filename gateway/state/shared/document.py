"""An account's document: what all processes know of its live figures.

A hash of the server, text to text; its fields are told in run.lua. Rows that are not in
it are the store's, final: every row that a request may post to is put in before. Open
holds stand in it as records, so that whoever reads it can say what each balance holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import orjson

from gateway.core.ledger import Balance
from gateway.core.periods import Span
from gateway.core.pricing import Counted, Rule, Tier
from gateway.core.rows import OWN_LOT, BalanceRow, LedgerEntry
from gateway.state.base import AccountState, Hold, Posting

POSTED = "posted"  # of a hold whose charges are counted, but not yet known to be in the journal

Row = tuple[str, int, str]  # meter, start of the period, lot


def used_field(meter: str, period_us: int, lot: str) -> str:
    return f"u|{meter}|{period_us}|{lot}"


def row_of(posting: Posting) -> Row:
    """The row that a posting is added to."""
    meter, _, period_us, *lot = posting
    return meter, period_us, str(lot[0]) if lot else OWN_LOT


def row_of_field(name: str) -> Row:
    """From its `u|...`."""
    _, meter, period, lot = name.split("|", 3)
    return meter, int(period), lot


def mark_field(meter: str, period_us: int, at_us: int) -> str:
    return f"m|{meter}|{period_us}|{at_us}"


def held_field(balance: Balance) -> str:
    return f"h|{balance.meter}|{balance.span[0]}|{balance.lot}"


def stake_field(life: str) -> str:
    return f"j|{life}"


def part_field(life: str, part: str) -> str:
    """What a stake holds of one meter's period."""
    return f"k|{life}|{part}"


def part_name(meter: str, span: Span) -> str:
    return f"{meter}|{span[0]}|{span[1]}"


class Part(NamedTuple):
    """What a record holds of one meter's period; `lot` is that of a further allowance."""

    meter: str
    span: Span
    amount: int
    lot: str = OWN_LOT


@dataclass(frozen=True, slots=True)
class Record:
    """An open hold, as it stands in the document."""

    id: str
    time_us: int
    owner: str
    request_id: str
    reserved: tuple[Part, ...]
    counted: tuple[Counted, ...] = ()
    caps: tuple[Part, ...] = ()
    ends_us: int = 0
    posted: tuple[tuple[str, int], ...] = ()  # fields of what was used, and amounts

    def text(self) -> str:
        """Without what the script keeps: the id and the end."""
        parts = [[p.meter, *p.span, p.amount] for p in self.reserved]
        caps = [[p.meter, *p.span, p.amount, p.lot] for p in self.caps]
        counted = [
            [c.rule.meter, c.rule.counter, c.rule.id, c.rule.rate, _tiers(c.rule), c.amount]
            for c in self.counted
        ]
        body = [self.time_us, self.owner, self.request_id, parts, counted, caps, self.posted]
        text = orjson.dumps(body).decode()
        return f"{POSTED} {text}" if self.posted else text


def _tiers(rule: Rule) -> list[tuple[int | None, tuple[int, int]]]:
    return [(tier.up_to, tier.rate) for tier in rule.tiers]


def read_record(hold_id: str, text: str) -> Record:
    """From `END TEXT` as the document has it."""
    ends, _, body = text.partition(" ")
    time_us, owner, request_id, parts, counted, caps, posted = orjson.loads(
        body.removeprefix(f"{POSTED} ")
    )
    return Record(
        hold_id,
        time_us,
        owner,
        request_id,
        tuple([Part(meter, Span(start, end), n) for meter, start, end, n in parts]),
        tuple([Counted(_rule(*rule), n) for *rule, n in counted]),
        tuple([Part(meter, Span(start, end), n, lot) for meter, start, end, n, lot in caps]),
        int(ends),
        tuple([(name, n) for name, n in posted]),
    )


def _rule(
    meter: str,
    counter: str,
    rule_id: str,
    rate: list[int],
    tiers: list[tuple[int | None, list[int]]],
) -> Rule:
    made = tuple([Tier(up_to, (n, d)) for up_to, (n, d) in tiers])
    return Rule(meter, rate=(rate[0], rate[1]), counter=counter, tiers=made, id=rule_id)


def record_of(hold: Hold, owner: str) -> Record:
    """An open hold, to be told to the others."""
    ask = hold.ask
    assert ask is not None, "told while it is open"
    parts = tuple([Part(b.meter, b.span, amount) for b, amount in hold.reserved])
    counted = ask.counted if hold.counts else ()
    caps = tuple([Part(b.meter, b.span, amount, b.lot) for b, amount in hold.caps])
    return Record(ask.event_id, ask.time_us, owner, ask.request_id, parts, counted, caps)


@dataclass(frozen=True, slots=True)
class StakeRow:
    """What one process holds in sum, of requests on which one number of each balance decided."""

    since_us: int  # when the first of them came
    count: int  # of requests
    ends_us: int
    parts: Mapping[tuple[str, Span], int] = field(default_factory=dict)

    def without(self, parts: Iterable[Part]) -> StakeRow:
        """One request less."""
        left = dict(self.parts)
        for meter, span, amount, _ in parts:
            left[meter, span] = left.get((meter, span), 0) - amount
        return replace(self, count=self.count - 1, parts=left)


@dataclass(slots=True)
class Document:
    """As it was read, or written, last. `version` and `terms` are told back as they came."""

    version: str = ""
    terms: str = ""
    rows: dict[Row, int] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    marks: dict[str, int] = field(default_factory=dict)
    records: dict[str, Record] = field(default_factory=dict)
    stakes: dict[str, StakeRow] = field(default_factory=dict)  # by the life they are of
    # What is being taken back, by entry, and until when: it counts before it is in the store.
    entries: dict[str, tuple[int, LedgerEntry]] = field(default_factory=dict)
    # What somebody may have taken ahead (ahead.py), fields or limits, and until when.
    ahead: dict[str, int] = field(default_factory=dict)
    # By journal: its last record that is counted here. Kept by the script.
    journals: dict[str, int] = field(default_factory=dict)

    def balances(self, stored: Iterable[BalanceRow]) -> list[BalanceRow]:
        """The store's rows, with those that are newer here."""
        rows = {(row.meter, row.period_us, row.lot): row.used for row in stored} | self.rows
        return [BalanceRow(*key, used) for key, used in rows.items()]


def read(flat: list[bytes]) -> Document:
    """From the reply of HGETALL."""
    document = Document()
    parts: dict[str, dict[tuple[str, Span], int]] = {}
    for n in range(0, len(flat), 2):
        name, value = flat[n].decode(), flat[n + 1]
        kind, _, rest = name.partition("|")
        if kind == "u":
            document.rows[row_of_field(name)] = int(value)
        elif kind == "h":
            document.held[name] = int(value)
        elif kind == "m":
            document.marks[name] = int(value)
        elif kind == "o":
            document.records[rest] = read_record(rest, value.decode())
        elif kind == "j":
            ends_us, since_us, count = map(int, value.split())
            document.stakes[rest] = StakeRow(since_us, count, ends_us, parts.setdefault(rest, {}))
        elif kind == "k":
            life, meter, start, end = rest.rsplit("|", 3)
            parts.setdefault(life, {})[meter, Span(int(start), int(end))] = int(value)
        elif kind == "e":
            ends, _, text = value.decode().partition(" ")
            document.entries[rest] = (int(ends), LedgerEntry(*orjson.loads(text)))
        elif kind == "p":
            document.journals[rest] = int(value)
        elif kind == "a":
            document.ahead = {name: int(ends) for name, ends in orjson.loads(value).items()}
        elif kind == "v":
            document.version = value.decode()
        elif kind == "t":
            document.terms = value.decode()
    return document


def entry_field(ends_us: int, entry: LedgerEntry) -> tuple[str, str]:
    return f"e|{entry.id}", f"{ends_us} {orjson.dumps(list(entry)).decode()}"


def journaled(document: Document) -> dict[Row, int]:
    """The rows without what is posted before its event is known to be in a journal."""
    rows = dict(document.rows)
    for record in document.records.values():
        for name, amount in record.posted:
            rows[row_of_field(name)] -= amount
    return rows


def take_back(document: Document, record: Record) -> None:
    """What was posted from a hold was not used after all."""
    for name, amount in record.posted:
        meter, period_us, lot = row = row_of_field(name)
        document.rows[row] -= amount
        for mark in document.marks:
            period, _, at_us = mark.rpartition("|")
            is_before = record.time_us < int(at_us)
            if lot == OWN_LOT and is_before and period == f"m|{meter}|{period_us}":
                document.marks[mark] -= amount


def mark_fields(state: AccountState) -> dict[str, int]:
    """What bills remember, by field."""
    return {
        mark_field(b.meter, b.span.start_us, mark.at_us): mark.used
        for b in (*state.balances.values(), *state.aside)
        for mark in b.marks
    }


def held_fields(balances: Iterable[Balance]) -> dict[str, int]:
    return {held_field(balance): balance.held for balance in balances}


def stake_fields(stakes: Mapping[str, StakeRow]) -> dict[str, int | str]:
    found: dict[str, int | str] = {}
    for life, stake in stakes.items():
        found[stake_field(life)] = f"{stake.ends_us} {stake.since_us} {stake.count}"
        found |= {
            part_field(life, part_name(meter, span)): amount
            for (meter, span), amount in stake.parts.items()
            if amount
        }
    return found


def changes(
    old: Mapping[str, int | str], new: Mapping[str, int | str]
) -> tuple[list[str | int], list[str]]:
    """What is to be set, flat, and which fields are to go."""
    to_set: list[str | int] = []
    for name, value in new.items():
        if old.get(name) != value:
            to_set += (name, value)
    return to_set, [name for name in old if name not in new]


def write_step(key: str, old: Document, new: Document, ends_us: int) -> list[Any] | None:
    """The script's step that makes one document the other; None when they are the same.

    Holds that are new end at `ends_us`, unless they are renewed.
    """
    to_set: list[str | int] = []
    gone: list[str] = []
    for before, after in (
        (_by_field(old.rows), _by_field(new.rows)),
        (old.held, new.held),
        (old.marks, new.marks),
        (stake_fields(old.stakes), stake_fields(new.stakes)),
    ):
        some, others = changes(before, after)
        to_set += some
        gone += others
    if old.marks.keys() != new.marks.keys():
        if new.marks:
            to_set += ("b", orjson.dumps(sorted(new.marks)).decode())
        else:
            gone.append("b")
    for hold_id, record in new.records.items():
        if old.records.get(hold_id) is not record:
            record = new.records[hold_id] = replace(record, ends_us=ends_us)
            to_set += (f"o|{hold_id}", f"{ends_us} {record.text()}")
    for entry_id, (entry_ends_us, entry) in new.entries.items():
        if entry_id not in old.entries:
            to_set += entry_field(entry_ends_us, entry)
    gone += [f"e|{entry_id}" for entry_id in old.entries if entry_id not in new.entries]
    gone += [f"o|{hold_id}" for hold_id in old.records if hold_id not in new.records]
    if not (to_set or gone):
        return None
    ends = [record.ends_us for record in new.records.values()]
    ends += [stake.ends_us for stake in new.stakes.values()]
    to_set += ("x", min(ends, default=0))
    return ["write", key, old.version, old.terms, to_set, gone]


def _by_field(rows: Mapping[Row, int]) -> dict[str, int]:
    return {used_field(*row): used for row, used in rows.items()}
