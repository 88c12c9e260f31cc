"""Bills say what the store's events sum to: by day, by month, through lots and changes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.core.book import Account, Meter, Plan
from gateway.core.events import Event, Posted
from gateway.core.money import format_cents, whole_micro
from gateway.core.periods import DAY_US, HOUR_US, MONTH
from gateway.core.rows import LedgerEntry
from gateway.core.terms import effective_plan
from gateway.store.ledger import insert_entry, record_account_version, record_plans_version
from gateway.usage.billing import (
    Month,
    month_of,
    read_bills,
    read_invoice,
    read_meter_bill,
    read_period_bill,
)
from gateway.usage.records import Records, read_records
from tests.core.terms_making import ACME, entry, paying, plan, timeline, us
from tests.journal.making import event, opened, ship, store, write
from tests.support.stores import each_store, open_report

pytestmark = each_store

COINS = Meter("coins", title="Coins")
METERS = {"coins": COINS}
MARCH_US = us("2026-03-01")
NOW_US = us("2026-04-02")

# (instant, amount, lot) of requests
Requests = Sequence[tuple[str, int, str]]


def made(number: int, at_us: int, amount: int, lot: str, period_us: int) -> Event:
    charges = (Posted("coins", amount, period_us, lot), Posted("coins", amount, 0, "@day"))
    return event(number, account="acme", time_us=at_us, charges=charges)


@contextmanager
def kept(
    home: Path,
    requests: Requests,
    *,
    accounts: Sequence[tuple[str, Account]] = (("2026-02-01", ACME),),
    plans: Sequence[tuple[str, Sequence[Plan]]] = (("2026-01-01", [paying()]),),
    entries: Sequence[LedgerEntry] = (),
    timezone: str = "UTC",
) -> Iterator[sqlite3.Connection]:
    """A store with an account's requests, history and ledger."""
    with store(home) as sink:
        history = timeline(accounts, plans)
        for version in history.plans:
            record_plans_version(sink.connection, version.book, version.plans, version.from_us)
        for known in history.accounts:
            record_account_version(sink.connection, known.account, known.from_us)
        for row in entries:
            insert_entry(sink.connection, row)
    with opened(home) as journal:
        for number, (at, amount, lot) in enumerate(requests):
            period_us = MONTH.span(us(at), 0, timezone).start_us
            write(journal, made(number, us(at), amount, lot, period_us))
    ship(home)
    connection = open_report(home)
    try:
        yield connection
    finally:
        connection.close()


def records(connection: sqlite3.Connection, account: Account = ACME) -> Records:
    found = read_records(connection, account, plan())
    last = found.terms[-1]
    assert last.plan is not None
    return found._replace(account=last.account, plan=last.plan)


def daily(connection: sqlite3.Connection, until: str = "2026-04-01") -> dict[str, int]:
    """Units by date, of the days that were over at an instant."""
    found = records(connection)
    month = month_of(found, "2026-03")
    days = [day for day in month.days if day <= us(until)]
    bills = read_bills(connection, found, METERS, month, days, us(until))
    return {month.date(day): units for bill in bills for day, (units, _) in bill.days.items()}


def total(connection: sqlite3.Connection, now_us: int = NOW_US) -> tuple[int, int, str]:
    """Units billed, units past the grants that are not, and dollars of March's invoice."""
    found = records(connection)
    month = month_of(found, "2026-03")
    invoice = read_invoice(connection, found, METERS, month, now_us, "half_up")
    (use,) = invoice.uses
    return use.overage, use.overdraft, format_cents(invoice.total_cents)


REQUESTS: Requests = [
    ("2026-02-28T23:59", 500, ""),  # February's
    ("2026-03-01T00:00", 60, ""),
    ("2026-03-03T23:59", 50, ""),
    ("2026-03-04T00:00", 1, ""),
    ("2026-03-31T23:59", 7, ""),
    ("2026-04-01T00:00", 400, ""),  # April's
]


def test_days_and_invoice_are_the_same_units(tmp_path: Path) -> None:
    with kept(tmp_path, REQUESTS) as connection:
        assert daily(connection) == {"2026-03-03": 10, "2026-03-04": 1, "2026-03-31": 7}
        assert total(connection) == (18, 0, "18.00")


def test_a_report_told_early_is_the_beginning_of_the_later_one(tmp_path: Path) -> None:
    with kept(tmp_path, REQUESTS) as connection:
        whole = daily(connection, "2026-04-09")
        for day in range(1, 32):
            until = f"2026-03-{day:02}"
            assert daily(connection, until) == {d: n for d, n in whole.items() if d < until}


def test_a_month_that_is_not_over_is_billed_up_to_now(tmp_path: Path) -> None:
    with kept(tmp_path, REQUESTS) as connection:
        assert total(connection, us("2026-03-04T00:00"))[0] == 11
        assert total(connection, us("2026-03-03T12:00"))[0] == 0
        bill = read_period_bill(connection, records(connection), COINS, us("2026-03-04T10:00"))
        assert (bill.units, whole_micro(bill.cost_micro), bill.is_allowed) == (11, 11_000_000, True)


def test_what_a_bundle_paid_is_not_over(tmp_path: Path) -> None:
    bought = entry(1, 40, "2026-03-05", kind="bundle", price_micro=9_000_000, reason="Starter")
    requests = [
        ("2026-03-02T10:00", 110, ""),  # ten are over before the bundle came
        ("2026-03-06T10:00", 30, "e1"),
        ("2026-03-07T10:00", 10, "e1"),
        ("2026-03-07T11:00", 5, ""),
    ]
    with kept(tmp_path, requests, entries=[bought]) as connection:
        assert daily(connection) == {"2026-03-02": 10, "2026-03-07": 5}
        assert total(connection) == (15, 0, "24.00")


def test_a_top_up_takes_back_on_its_day(tmp_path: Path) -> None:
    topped = entry(1, 30, "2026-03-10T12:00", period="2026-03-01")
    requests = [("2026-03-02T10:00", 150, ""), ("2026-03-20T10:00", 2, "")]
    with kept(tmp_path, requests, entries=[topped]) as connection:
        assert daily(connection) == {"2026-03-02": 50, "2026-03-10": -30, "2026-03-20": 2}
        assert total(connection) == (22, 0, "22.00")


def test_what_a_blocking_plan_let_through_is_an_overdraft(tmp_path: Path) -> None:
    off = replace(ACME, overage=False)
    requests = [("2026-03-02T10:00", 103, "")]
    with kept(tmp_path, requests, accounts=[("2026-02-01", off)]) as connection:
        assert daily(connection) == {}
        assert total(connection) == (0, 3, "0.00")
        bill = read_period_bill(connection, records(connection), COINS, us("2026-03-03"))
        assert (bill.units, bill.is_allowed) == (0, False)


def test_a_time_zone_cuts_days_and_month(tmp_path: Path) -> None:
    kathmandu = replace(ACME, timezone="Asia/Kathmandu")  # UTC+5:45
    requests = [
        ("2026-02-28T18:14", 900, ""),
        ("2026-02-28T18:15", 100, ""),  # midnight there: March
        ("2026-03-04T18:14", 1, ""),
        ("2026-03-04T18:15", 2, ""),
        ("2026-03-31T18:14", 4, ""),
        ("2026-03-31T18:15", 900, ""),
    ]
    with kept(
        tmp_path, requests, accounts=[("2026-02-01", kathmandu)], timezone="Asia/Kathmandu"
    ) as connection:
        assert daily(connection) == {"2026-03-04": 1, "2026-03-05": 2, "2026-03-31": 4}
        assert total(connection)[0] == 7


def test_a_time_zone_that_is_changed_later_moves_no_day(tmp_path: Path) -> None:
    moved = replace(ACME, timezone="Asia/Kathmandu")
    with kept(
        tmp_path, REQUESTS, accounts=[("2026-02-01", ACME), ("2026-04-01T10:00", moved)]
    ) as connection:
        assert daily(connection) == {"2026-03-03": 10, "2026-03-04": 1, "2026-03-31": 7}


def test_a_past_month_is_billed_by_its_own_terms(tmp_path: Path) -> None:
    dear = paying(1000, price_micro=77_000_000)
    with kept(
        tmp_path,
        REQUESTS,
        plans=[("2026-01-01", [paying(price_micro=5_000_000)]), ("2026-04-01", [dear])],
    ) as connection:
        assert total(connection) == (18, 0, "23.00")


def test_a_plan_that_was_left_is_taken_back(tmp_path: Path) -> None:
    other = Plan("other", price_micro=1_000_000)
    with kept(
        tmp_path,
        [("2026-03-02T10:00", 150, "")],
        accounts=[("2026-02-01", ACME), ("2026-03-10T08:00", replace(ACME, plan="other"))],
        plans=[("2026-01-01", [paying(), other])],
    ) as connection:
        assert daily(connection) == {"2026-03-02": 50, "2026-03-10": -50}
        assert total(connection)[0] == 0


def test_weeks_are_billed_on_the_days_of_the_month(tmp_path: Path) -> None:
    """Not offered by configurations, whose overage is by month; the sums hold all the same."""
    weekly = paying(10, period=MONTH.__class__("week", weekday=0))
    with store(tmp_path) as sink:
        record_plans_version(sink.connection, "v", {"paid": weekly}, us("2026-01-01"))
        record_account_version(sink.connection, ACME, us("2026-02-01"))
    monday_us = us("2026-03-30")
    with opened(tmp_path) as journal:
        for number, at_us in enumerate((monday_us + HOUR_US, monday_us + 3 * DAY_US)):
            write(journal, made(number, at_us, 12, "", monday_us))
    ship(tmp_path)
    connection = open_report(tmp_path)
    found = records(connection)
    for name, units in (("2026-03", 2), ("2026-04", 12)):
        month = month_of(found, name)
        now_us = us("2026-05-01")
        assert read_meter_bill(connection, found, COINS, month.days, now_us).units == units
    connection.close()


def test_months_have_all_their_days() -> None:
    for name, timezone, days in (
        ("2026-02", "UTC", 28),
        ("2028-02", "Europe/Kyiv", 29),
        ("2026-03", "Europe/Kyiv", 31),
        ("2026-10", "America/New_York", 31),
    ):
        middle_us = us(f"{name}-15")
        month = Month(name, MONTH.span(middle_us, 0, timezone), timezone)
        assert len(month.days) == days + 1
        assert [month.date(day)[8:] for day in month.days[:-1]] == [
            f"{n:02}" for n in range(1, days + 1)
        ]


def test_records_are_those_of_the_account(tmp_path: Path) -> None:
    with kept(tmp_path, REQUESTS, entries=[entry(1, 5, "2026-03-02")]) as connection:
        found = records(connection)
        assert [row.id for row in found.entries] == ["e1"]
        assert {row.lot for row in found.balances} == {"", "@day"}
        nobody = read_records(connection, Account("nobody", "paid"), effective_plan(plan(), ACME))
        assert (nobody.entries, nobody.balances, len(nobody.terms)) == ([], [], 1)


@pytest.mark.parametrize("now", ["2026-03-15", "2026-04-15"])
def test_nothing_used_is_nothing_billed(tmp_path: Path, now: str) -> None:
    with kept(tmp_path, []) as connection:
        assert total(connection, us(now)) == (0, 0, "0.00")
        assert daily(connection) == {}
