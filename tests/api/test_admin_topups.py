"""Top-ups: exact, once, at once."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.api.admin_client import Admin
from tests.api.conftest import status_of
from tests.support.configs import Caller
from tests.support.stage import Stage


def test_a_topup_counts_with_the_next_request(api: Stage, admin: Admin, account: str) -> None:
    who = admin.new_caller(account)
    assert [status_of(api, who) for _ in range(6)] == [200] * 5 + [429]
    made = admin.make("/topups", account=account, meter="coins", amount="2", reason="sorry")
    assert (made["amount"], made["reason"], made["actor"]) == (2, "sorry", "cli:unknown")
    assert [status_of(api, who) for _ in range(3)] == [200, 200, 429]
    figures = api.gateway.settled_usage(who)
    assert (figures["used"], figures["limit"], figures["topped_up"]) == (7, 7, 2)
    assert admin.get("/ledger", account=account)["items"] == [made]


def test_same_idempotency_key_adds_once(api: Stage, admin: Admin, account: str) -> None:
    who = admin.new_caller(account)
    status_of(api, who)
    body = {"account": account, "meter": "coins", "amount": "10"}
    headers = {"Idempotency-Key": f"{account}-order-1"}

    def send(_: int) -> Any:
        return admin.ask("POST", "/topups", body, headers=headers)

    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(send, range(24)))
    assert Counter(reply.status for reply in replies) == {201: 1, 200: 23}
    assert len({str(reply.document) for reply in replies}) == 1
    assert api.gateway.usage(who)["limit"] == 15
    body["amount"] = "11"
    reply = admin.ask("POST", "/topups", body, headers=headers)
    assert (reply.status, reply.code) == (409, "idempotency_conflict")
    assert api.gateway.usage(who)["limit"] == 15


def test_topups_and_calls_in_parallel_add_up(api: Stage, admin: Admin, account: str) -> None:
    """The balance is loaded, spent and topped up at once; none of it is lost or doubled."""
    who = admin.new_caller(account)

    def top_up(_: int) -> int:
        return admin.ask(
            "POST", "/topups", {"account": account, "meter": "coins", "amount": 1}
        ).status

    with ThreadPoolExecutor(12) as pool:
        topped = pool.map(top_up, range(20))
        called = pool.map(lambda _: status_of(api, who), range(60))
        assert set(topped) == {201}
        passed = Counter(called)[200]
    while status_of(api, who) == 200:
        passed += 1
    assert passed == 25
    figures = api.gateway.settled_usage(who)
    assert (figures["used"], figures["limit"], figures["remaining"]) == (25, 25, 0)
    assert admin.get("/audit")["clean"]


def test_decimals_are_exact(admin: Admin, precise: Caller) -> None:
    account = precise.account
    made = admin.make("/topups", account=account, meter="credits", amount="0.07")
    assert made["amount"] == "0.07"
    for _ in range(10):
        admin.make("/topups", account=account, meter="credits", amount="0.1")
    credits = admin.get(f"/usage/{account}")["meters"]["credits"]
    assert (credits["topped_up"], credits["limit"]) == ("1.07", "11.07")


def test_taking_back_no_more_than_was_added(admin: Admin, account: str) -> None:
    admin.make("/topups", account=account, meter="coins", amount="5")
    admin.make("/topups", account=account, meter="coins", amount="-3")
    reply = admin.ask("POST", "/topups", {"account": account, "meter": "coins", "amount": "-3"})
    assert (reply.status, reply.code) == (400, "invalid_parameter")
    assert admin.get(f"/usage/{account}")["meters"]["coins"]["limit"] == 7


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"amount": "0.001", "meter": "credits"}, "amount: expected at most 2 digits"),
        ({"amount": "1.5"}, "amount: expected at most 0 digits"),
        ({"amount": 1.5}, "a JSON number may be inexact"),
        ({"amount": True}, "amount: expected"),
        ({"amount": "1e3"}, "amount: expected a decimal number"),
        ({"amount": "٣"}, "amount: expected a decimal number"),
        ({"amount": "NaN"}, "amount: expected a decimal number"),
        ({"amount": "9007199254740992"}, "amount: expected at most 9007199254740991"),
        ({"amount": "0"}, "amount: expected an amount that is not 0"),
        ({"meter": "coin"}, "found 'coin' (did you mean coins?)"),
        ({"meter": None}, "meter: expected a value"),
        ({"meter": "credits"}, "there is nothing to top up"),
        ({"why": "x"}, "unknown field 'why'"),
    ],
    ids=str,
)
def test_400_says_what_was_expected_and_found(
    admin: Admin, account: str, fields: dict[str, Any], detail: str
) -> None:
    owner = account
    if fields.get("meter") == "credits" and "amount" in fields:
        owner = f"{account}-precise"
        admin.make("/accounts", id=owner, plan="precise")
    body = {"account": owner, "meter": "coins", "amount": "1", **fields}
    reply = admin.ask("POST", "/topups", body)
    assert reply.status == 400, reply
    assert detail in reply.document["detail"]
    assert admin.get("/ledger", account=account)["items"] == []


def test_404_for_an_account_that_is_not_there(admin: Admin) -> None:
    reply = admin.ask("POST", "/topups", {"account": "nobody", "meter": "coins", "amount": "1"})
    assert (reply.status, reply.code) == (404, "not_found")


def test_idempotency_key_is_limited(admin: Admin, account: str) -> None:
    body = {"account": account, "meter": "coins", "amount": "1"}
    reply = admin.ask("POST", "/topups", body, headers={"Idempotency-Key": "x" * 300})
    assert reply.status == 400
