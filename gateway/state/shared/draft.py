"""An account's document as it is to be, while jobs are done on the copy.

Question: what is written? Rows of which more is used, holds that came and went, entries
that count in advance; and of what was there before all that somebody may yet need. Must
not know the server, nor why a job changes something.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace

from gateway.core.ledger import Balance
from gateway.core.periods import DAY_US
from gateway.state.accounts import Accounts
from gateway.state.base import AccountState, Hold
from gateway.state.shared.document import (
    Document,
    Record,
    Row,
    held_fields,
    mark_fields,
)
from gateway.state.shared.stake import Stake, StakeHold

ROWS_KEPT_US = 40 * DAY_US  # of periods that are not used any more


class Draft:
    """What jobs change of a document."""

    __slots__ = ("rows", "records", "stakes", "entries", "given_back", "_document")

    def __init__(
        self,
        document: Document,
        own: Container[str],
        life: str,
        entries_over: Container[str],
        now_us: int,
        lease_us: int,
    ) -> None:
        """All holds go on. Those of this process are renewed where they are late: `own` are ids,
        `life` begins the names of its stakes. `entries_over` are ids of those that are stored,
        or given up.
        """
        self._document = document
        self.rows = dict(document.rows)
        # A record that is another object is written again.
        self.records = {
            hold_id: replace(record) if record.ends_us < now_us and hold_id in own else record
            for hold_id, record in document.records.items()
        }
        self.stakes = {
            name: replace(row, ends_us=now_us + lease_us)
            if row.ends_us < now_us and name.startswith(life)
            else row
            for name, row in document.stakes.items()
        }
        self.entries = {k: e for k, e in document.entries.items() if k not in entries_over}
        self.given_back: list[Stake] = []  # one for each hold that is none of it any more

    def forget(self, hold: Hold, hold_id: str) -> Record | None:
        """It is held no more; its record, where it had one."""
        if not isinstance(hold, StakeHold):
            return self.records.pop(hold_id, None)
        life = hold.stake.life
        if life in self.stakes:
            self.stakes[life] = self.stakes[life].without(hold.form.parts)
            self.given_back.append(hold.stake)
        return None

    def written(
        self, state: AccountState, accounts: Accounts, stored: Mapping[Row, int], now_us: int
    ) -> Document:
        """The whole document; `stored` are the store's rows, as they were read last."""
        live = [*state.balances.values(), *state.aside, *state.caps.values()]
        needed = _rows_of(live)
        for row in needed:
            self.rows.setdefault(row, stored.get(row, 0))

        def stays(row: Row, used: int) -> bool:
            """Somebody may yet post to it, or the store lacks some; else its row is final."""
            meter, period_us, _ = row
            if row in needed or used != stored.get(row, 0) or period_us >= now_us - ROWS_KEPT_US:
                return True
            return period_us >= accounts.span_of(state, meter, now_us).start_us

        rows = {row: used for row, used in self.rows.items() if stays(row, used)}
        kept = {f"m|{meter}|{period_us}" for meter, period_us, _ in rows}
        marks = self._document.marks
        marks = {name: used for name, used in marks.items() if name.rsplit("|", 1)[0] in kept}
        return Document(
            version=self._document.version,
            terms=self._document.terms,
            rows=rows,
            held={name: amount for name, amount in held_fields(live).items() if amount},
            marks=marks | mark_fields(state),
            records=self.records,
            stakes={life: row for life, row in self.stakes.items() if row.count > 0},
            entries=self.entries,
            ahead=self._document.ahead,
        )


def _rows_of(balances: list[Balance]) -> set[Row]:
    """Every row that a request may post to."""
    rows: set[Row] = set()
    for balance in balances:
        rows.add((balance.meter, balance.span.start_us, balance.lot))
        rows |= {(balance.meter, balance.span.start_us, lot.id) for lot in balance.lots}
    return rows
