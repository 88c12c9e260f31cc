"""Ledger entries, members and histories come back as they were put in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.core.book import Account, Allowance, Bundle, OverageRate, Plan, SettableLimit
from gateway.core.limits import RateLimit
from gateway.core.periods import Period
from gateway.core.rows import AccountVersion, LedgerEntry
from gateway.core.units import AMOUNT_MAX
from gateway.journal.record import RECORD_MAX_BYTES, encode_close
from gateway.store import ledger
from gateway.store.ledger import LedgerRefusal
from gateway.store.sink import SqliteSink
from gateway.store.sqlite import SqliteStore
from tests.support.stores import each_store, open_sink, open_store

pytestmark = each_store

ENTRY = LedgerEntry(
    id="e1",
    account="acc",
    meter="coins",
    kind="topup",
    lot="",
    period_us=1000,
    amount=50,
    starts_us=1000,
    expires_us=None,
    priority=0,
    every="",
    price_micro=0,
    reason="goodwill",
    actor="ops",
    time_us=1,
)
HOURLY = RateLimit("hourly", "key", "gcra", 100, 3_600_000_000, 20, "plan/paid/hourly", b'"h";q=1')
BARE = Bundle("bare", "coins", 1, 0)
PLANS = {
    "paid": Plan(
        "paid",
        (
            Allowance("coins", 10, Period("week"), settable=True),
            Allowance("uc", 5, Period("month"), "overage", 402, True, 3, OverageRate(10_000, 100)),
            Allowance("uc", 1, Period("fixed", 777)),
            Allowance("uc", 1, Period("week", weekday=2)),
        ),
        (HOURLY,),
        billing="free",
        title="Professional",
        price_micro=256_000_000,
        seat_price_micro=30_000_000,
        on_leave="at_once",
        bundles=(Bundle("starter", "uc", 1000, 10_000_000, "Starter", 5, "Popular"), BARE),
        settable=(SettableLimit(HOURLY, 1, 0),),
    ),
    "none": Plan("none"),
}


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[SqliteSink]:
    made = open_sink(tmp_path)
    yield made
    made.close()


@pytest.fixture
def reader(sink: SqliteSink, tmp_path: Path) -> Iterator[SqliteStore]:
    made = open_store(tmp_path)
    yield made
    made.close()


def test_an_entry_is_made_once(sink: SqliteSink, reader: SqliteStore) -> None:
    assert sink.run(lambda c: ledger.insert_entry(c, ENTRY)) == (ENTRY, True)
    later = ENTRY._replace(time_us=9, reason="again", period_us=2000)
    assert sink.run(lambda c: ledger.insert_entry(c, later)) == (ENTRY, False)
    for other in (ENTRY._replace(amount=51), ENTRY._replace(account="b")):
        with pytest.raises(ValueError, match="already used"):
            sink.run(lambda c, other=other: ledger.insert_entry(c, other))  # type: ignore[misc]
    with pytest.raises(ValueError, match="amount"):
        sink.run(lambda c: ledger.insert_entry(c, ENTRY._replace(id="e2", amount=2**53)))
    assert reader.entries("acc") == [ENTRY]


LOT = ENTRY._replace(id="lot", kind="bundle", lot="lot", period_us=0, time_us=100)


def insert(sink: SqliteSink, *entries: LedgerEntry) -> None:
    for entry in entries:
        sink.run(lambda c, entry=entry: ledger.insert_entry(c, entry))  # type: ignore[misc]


def use(sink: SqliteSink, lot: str, used: int) -> None:
    """As events would have it."""
    sink.run(lambda c: c.execute("INSERT INTO balances VALUES ('acc','coins',5,?,?)", (lot, used)))


def test_a_lot_is_never_taken_below_what_was_used(sink: SqliteSink) -> None:
    insert(sink, LOT, LOT._replace(id="add", lot="lot", kind="adjustment", amount=10))
    use(sink, "lot", 35)
    back = LOT._replace(id="back", lot="lot", kind="adjustment", amount=-26)
    with pytest.raises(LedgerRefusal, match="at most 25 of lot 'lot'"):
        insert(sink, back)
    insert(sink, back._replace(amount=-25))
    with pytest.raises(LedgerRefusal, match="at most 0"):
        insert(sink, back._replace(id="more", amount=-1))


def test_a_recurring_lot_is_adjusted_by_its_occurrence(sink: SqliteSink) -> None:
    insert(sink, LOT._replace(kind="recurring", every="week"))
    use(sink, "lot@77", 20)
    change = LOT._replace(id="c", lot="lot@77", kind="adjustment", amount=-31)
    with pytest.raises(LedgerRefusal, match="at most 30"):
        insert(sink, change)
    insert(sink, change._replace(amount=-30), change._replace(id="d", lot="lot@78", amount=-50))


@pytest.mark.parametrize(
    "wrong",
    [
        LOT._replace(id="x", lot="lot", meter="gold"),
        LOT._replace(id="x", lot="lot", account="other"),
        LOT._replace(id="x", lot="nothing"),
        LOT._replace(id="x", lot="lot@5"),  # the lot does not recur
        LOT._replace(id="x", lot="topup"),  # brought no lot
        LOT._replace(id="@day", lot="@day"),
        LOT._replace(id="", lot=""),
        LOT._replace(id="x", lot="x", amount=-1),
    ],
)
def test_an_entry_that_belongs_nowhere_is_refused(sink: SqliteSink, wrong: LedgerEntry) -> None:
    insert(sink, LOT, ENTRY._replace(id="topup"))
    with pytest.raises(LedgerRefusal, match="expected"):
        insert(sink, wrong)
    assert len(ledger.list_entries(sink.connection, "acc")) == 2


def test_all_lots_of_an_account_fit_one_event(sink: SqliteSink) -> None:
    made: list[str] = []
    with pytest.raises(LedgerRefusal, match="lots with units left"):
        for number in range(200):
            lot = f"{number:024}"
            insert(sink, LOT._replace(id=lot, lot=lot, time_us=number))
            made.append(lot)
    assert 40 < len(made) < 60
    charges = [("coins", AMOUNT_MAX, AMOUNT_MAX, lot) for lot in made]
    rest = ("id" * 18, 1, "192.0.2.1", "/" * 999, 200, "charged", charges, 1, 2, 3, 4, "r" * 99)
    label = ("acc", *("x" * 99 for _ in range(9)))
    assert len(encode_close(7, label, rest)) < RECORD_MAX_BYTES
    use(sink, made[0], 50)  # one that is used up makes room, one that has expired too
    names = [f"{number:024}" for number in range(201, 204)]
    lots = [LOT._replace(id=lot, lot=lot, time_us=299) for lot in names]
    insert(sink, lots[0]._replace(expires_us=300))
    with pytest.raises(LedgerRefusal, match="lots with units left"):
        insert(sink, lots[1])
    insert(sink, lots[2]._replace(time_us=300))


def test_entries_page_from_new_to_old(sink: SqliteSink) -> None:
    made = [ENTRY._replace(id=f"e{n}", time_us=n // 2) for n in range(7)]
    for entry in made:
        sink.run(lambda c, entry=entry: ledger.insert_entry(c, entry))  # type: ignore[misc]
    found: list[LedgerEntry] = []
    before = None
    while page := ledger.list_entries(sink.connection, "acc", before=before, limit=2):
        found += page
        before = (page[-1].time_us, page[-1].id)
    assert found == made[::-1]


def test_members(sink: SqliteSink) -> None:
    assert sink.run(lambda c: ledger.put_member(c, "acc", "ann", "owner")) is None
    assert sink.run(lambda c: ledger.put_member(c, "acc", "ann", "member")) == "owner"
    assert sink.run(lambda c: ledger.list_members(c, "acc")) == {"ann": "member"}
    assert sink.run(lambda c: ledger.remove_member(c, "acc", "ann"))
    assert not sink.run(lambda c: ledger.remove_member(c, "acc", "ann"))


def test_the_history_of_an_account(sink: SqliteSink, reader: SqliteStore) -> None:
    first = Account("acc", "free", 7, "A", seats=3, settings=(("ai", "off"),))
    second = Account("acc", "paid", cap_micro=0, overage=False, limits=(("hourly", 5),))
    for account, at_us in ((first, 10), (first, 20), (second, 30), (first, 5)):
        sink.run(
            lambda c, a=account, t=at_us: ledger.record_account_version(c, a, t)  # type: ignore[misc]
        )
    # The last change came with a clock that was set back: it still follows the others.
    assert reader.versions("acc") == [
        AccountVersion(10, first),
        AccountVersion(30, second),
        AccountVersion(31, first),
    ]


def test_the_history_of_plans(sink: SqliteSink, reader: SqliteStore) -> None:
    assert sink.run(lambda c: ledger.record_plans_version(c, "b1", PLANS, 10))
    assert reader.plans()[0].plans == PLANS
    read = reader.plans()[0].plans["paid"].limits[0]
    assert (read.policy, read.label) == (HOURLY.policy, HOURLY.label)
    assert not sink.run(lambda c: ledger.record_plans_version(c, "b2", PLANS, 20))
    assert sink.run(lambda c: ledger.record_plans_version(c, "b3", {}, 30))
    assert [(v.from_us, v.book) for v in reader.plans()] == [(10, "b1"), (30, "b3")]
