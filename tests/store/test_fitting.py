"""Which books fit what a store has, on either database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.config import load
from gateway.core.book import Account, Book
from gateway.core.rows import LedgerEntry
from gateway.store.fitting import BookRefused, fit
from gateway.store.ledger import insert_entry
from gateway.store.mutations import insert_account
from tests.support.configs import caller, config, write
from tests.support.stores import each_store, open_sink

pytestmark = each_store


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Any]:
    made = open_sink(tmp_path)
    yield made
    made.close()


def book(tmp_path: Path, decimals: int = 2, plans: tuple[str, ...] = ("small",)) -> Book:
    built = config(
        9,
        callers={"small": [caller("declared")]},
        meters={"words": {"decimals": decimals}, "coins": {}},
        plans={name: {} for name in plans},
    )
    file = tmp_path / "gateway.yaml"
    write(built, file, port=0, admin_port=0, data_dir=tmp_path)
    return load(file, {}).book


def test_decimals_may_change_until_there_are_figures(sink: Any, tmp_path: Path) -> None:
    for decimals in (2, 3, 2):
        sink.run(lambda store, d=decimals: fit(store, book(tmp_path, d)))
    sink.run(lambda store: insert_entry(store, GRANT))
    sink.run(lambda store: fit(store, book(tmp_path, 2)))
    with pytest.raises(BookRefused) as refused:
        sink.run(lambda store: fit(store, book(tmp_path, 3)))
    assert refused.value.problems == [
        "meters.words.decimals: expected 2, in which its figures are kept, found 3;"
        " give the meter another name"
    ]
    sink.run(lambda store: fit(store, book(tmp_path, 2)))  # nothing was noted


def test_a_fitted_book_knows_the_decimals_of_meters_that_are_gone(
    sink: Any, tmp_path: Path
) -> None:
    before = book(tmp_path)
    assert sink.run(lambda store: fit(store, before)) == before
    meters = {name: meter for name, meter in before.meters.items() if name != "words"}
    fitted = sink.run(lambda store: fit(store, replace(before, meters=meters)))
    assert [fitted.decimals_of(name) for name in ("words", "coins", "unheard")] == [2, 0, 0]
    assert sink.run(lambda store: fit(store, before)).past_decimals == {}


def test_an_allowance_of_an_account_is_a_figure(sink: Any, tmp_path: Path) -> None:
    sink.run(lambda store: fit(store, book(tmp_path, 2)))
    account = Account("own", "small", allowances=(("words", 500),))
    sink.run(lambda store: insert_account(store, account, 1))
    with pytest.raises(BookRefused, match=r"words\.decimals: expected 2"):
        sink.run(lambda store: fit(store, book(tmp_path, 0)))


def test_a_plan_that_accounts_have_may_not_go(sink: Any, tmp_path: Path) -> None:
    small, both = book(tmp_path), book(tmp_path, plans=("small", "big"))
    for account in (
        Account("declared", "big"),  # the declared one counts, which is small
        Account("never", ""),
        Account("gone", "big", disabled=True),
    ):
        sink.run(lambda store, a=account: insert_account(store, a, 1))
    sink.run(lambda store: fit(store, small))
    for n, have in ((1, "1 account has"), (2, "2 accounts have")):
        sink.run(lambda store, n=n: insert_account(store, Account(f"big-{n}", "big"), 1))
        sink.run(lambda store: fit(store, both))
        with pytest.raises(BookRefused) as refused:
            sink.run(lambda store: fit(store, small))
        assert refused.value.problems == [
            f"plans: expected 'big', which {have} (big-1), found none"
        ]


GRANT = LedgerEntry(
    "g1", "declared", "words", "promo", "g1", 0, 100, 0, None, 0, "", 0, "", "op", 5
)
