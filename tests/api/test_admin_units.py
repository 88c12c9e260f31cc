"""What changes an account's units: each once, never below what is used and held, all recorded."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.api.admin_client import Reply
from tests.api.office import Office


def adjust(desk: Office, account: str, amount: int | str, **more: Any) -> Reply:
    body = {"account": account, "meter": "coins", "amount": amount, "reason": "test", **more}
    return desk.admin.ask("POST", "/adjustments", body)


def grant(desk: Office, account: str, amount: int, **more: Any) -> dict[str, Any]:
    made = desk.admin.make("/grants", account=account, meter="coins", amount=amount, **more)
    return dict(made)


# -- grants and bundles -----------------------------------------------------------


def test_a_promotion_is_a_lot_of_its_own(desk: Office) -> None:
    who = desk.caller()
    made = grant(desk, who.account, 3, reason="welcome", expires="2d", priority=7)
    assert (made["kind"], made["lot"], made["priority"]) == ("promotion", made["id"], 7)
    assert made["reason"] == "welcome"
    (lot,) = desk.coins(who.account)["lots"]
    assert (lot["id"], lot["amount"], lot["left"]) == (made["id"], 3, 3)
    assert [desk.call(who) for _ in range(9)] == [200] * 8 + [429]


def test_a_recurring_grant_is_given_anew(desk: Office) -> None:
    account = desk.account()
    made = grant(desk, account, 4, every="day")
    assert (made["kind"], made["every"]) == ("recurring", "day")
    (lot,) = desk.coins(account)["lots"]
    assert lot["id"].startswith(f"{made['id']}@")
    assert lot["expires"] is not None


def test_a_grant_may_begin_later(desk: Office) -> None:
    account = desk.account()
    made = grant(desk, account, 4, starts="2099-01-01")
    assert made["starts"] == "2099-01-01T00:00:00Z"
    assert desk.coins(account)["lots"] == []
    assert desk.coins(account)["remaining"] == 5


def test_bundles_are_the_plans_offers(desk: Office) -> None:
    account = desk.account()
    offers = {b["name"]: b for b in desk.admin.get(f"/accounts/{account}/bundles")["items"]}
    assert (offers["starter"]["amount"], offers["starter"]["price"]) == (10, "5.00")
    made = desk.admin.make("/bundles", account=account, bundle="starter")
    assert (made["kind"], made["amount"], made["price"]) == ("bundle", 10, "5.00")
    assert (made["reason"], made["expires"]) == ("Starter", None)
    assert desk.coins(account)["remaining"] == 15
    assert desk.admin.make("/bundles", account=account, bundle="trial")["expires"] is not None
    reply = desk.admin.ask("POST", "/bundles", {"account": account, "bundle": "startr"})
    assert reply.status == 400
    assert "did you mean starter?" in reply.document["detail"]


@pytest.mark.parametrize("plan", ["free", "enterprise"])
def test_403_for_a_bundle_on_a_plan_without_any(desk: Office, plan: str) -> None:
    account = desk.account(plan)
    reply = desk.admin.ask("POST", "/bundles", {"account": account, "bundle": "starter"})
    assert (reply.status, reply.code) == (403, "forbidden")
    assert desk.admin.get("/ledger", account=account)["items"] == []


@pytest.mark.parametrize(
    ("path", "fields", "detail"),
    [
        ("/grants", {"meter": "coins", "amount": -1}, "an amount above 0"),
        ("/grants", {"meter": "coins", "amount": 1, "every": "year"}, "every: expected one of"),
        ("/grants", {"meter": "coins", "amount": 1, "expires": "2020-01-01"}, "in the past"),
        (
            "/grants",
            {"meter": "coins", "amount": 1, "starts": "2099-01-01", "expires": "1d"},
            "an instant after `starts`",
        ),
        ("/grants", {"meter": "coins", "amount": 1, "priority": 1001}, "priority: expected"),
        ("/grants", {"meter": "coins", "amount": 1, "id": "@day"}, "neither begins with '@'"),
        ("/grants", {"meter": "coins", "amount": 1, "id": "a@12"}, "neither begins with '@'"),
        ("/adjustments", {"meter": "coins", "amount": 1}, "reason: expected a value"),
        ("/adjustments", {"meter": "calls", "amount": 1, "reason": "x"}, "nothing to top up"),
        (
            "/adjustments",
            {"meter": "coins", "amount": 1, "reason": "x", "lot": "nothing"},
            "lot: expected a lot of this account",
        ),
        ("/refunds", {}, "event: expected a value"),
    ],
    ids=str,
)
def test_400_says_what_was_expected(
    desk: Office, path: str, fields: dict[str, Any], detail: str
) -> None:
    account = desk.account()
    reply = desk.admin.ask("POST", path, {"account": account, **fields})
    assert reply.status == 400, reply
    assert detail in reply.document["detail"]
    assert desk.admin.get("/ledger", account=account)["items"] == []


@pytest.mark.parametrize(
    "starts", ["0001-01-01", "1969-12-31", "9999-01-01", "9999-12-31T23:59:59-23:59"]
)
def test_400_for_an_instant_around_which_no_period_can_be_written(
    desk: Office, starts: str
) -> None:
    body = {"account": desk.account(), "meter": "coins", "amount": 1, "starts": starts}
    reply = desk.admin.ask("POST", "/grants", {**body, "every": "month"})
    assert (reply.status, reply.document["parameter"]) == (400, "starts")


@pytest.mark.parametrize("field", ["account", "meter", "reason"])
def test_400_for_half_a_character(desk: Office, field: str) -> None:
    body = {"account": desk.account(), "meter": "coins", "amount": 1, field: "\ud800"}
    reply = desk.admin.ask("POST", "/topups", body)
    assert (reply.status, reply.code) == (400, "invalid_body")


def test_409_for_more_lots_than_one_event_can_be_paid_from(desk: Office) -> None:
    account = desk.account()
    statuses = []
    while not statuses or statuses[-1] == 201:
        body = {"account": account, "meter": "coins", "amount": 1}
        statuses.append(desk.admin.ask("POST", "/grants", body).status)
        assert len(statuses) < 100
    assert statuses[-1] == 409
    assert desk.coins(account)["remaining"] == 5 + len(statuses) - 1


# -- once -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "others"),
    [
        ("/topups", {"meter": "coins", "amount": 2}, [{"amount": 3}, {"reason": "x"}]),
        (
            "/grants",
            {"meter": "coins", "amount": 2, "expires": "3d"},
            [{"amount": 3}, {"expires": "4d"}, {"expires": None}, {"every": "day"},
             {"priority": 1}, {"starts": "2099-01-01", "expires": "2099-02-01"}],
        ),
        ("/bundles", {"bundle": "starter"}, [{"bundle": "trial"}, {"reason": "x"}]),
        (
            "/adjustments",
            {"meter": "coins", "amount": 2, "reason": "sorry"},
            [{"amount": -2}, {"reason": "other"}],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_the_same_key_changes_once_and_another_request_is_refused(
    desk: Office, path: str, body: dict[str, Any], others: list[dict[str, Any]]
) -> None:
    account = desk.account()
    headers = {"Idempotency-Key": f"{account}-order"}
    first, again = (
        desk.admin.ask("POST", path, {"account": account, **body}, headers=headers)
        for _ in range(2)
    )
    assert (first.status, again.status) == (201, 200)
    assert first.document == again.document
    remaining = desk.coins(account)["remaining"]
    for other in others:
        sent = {"account": account, **body, **other}
        reply = desk.admin.ask("POST", path, sent, headers=headers)
        assert (reply.status, reply.code) == (409, "idempotency_conflict"), other
    elsewhere = {"account": desk.account(), **body}
    assert desk.admin.ask("POST", path, elsewhere, headers=headers).status == 409
    assert desk.coins(account)["remaining"] == remaining
    assert len(desk.admin.get("/ledger", account=account)["items"]) == 1


# -- taking back ------------------------------------------------------------------


def test_an_adjustment_takes_back_no_more_than_is_left(desk: Office) -> None:
    who = desk.caller()
    assert [desk.call(who) for _ in range(2)] == [200, 200]
    reply = adjust(desk, who.account, -4)
    assert (reply.status, reply.document["parameter"]) == (400, "amount")
    assert "at most 3" in reply.document["detail"]
    made = adjust(desk, who.account, -3).document
    assert (made["kind"], made["amount"], made["lot"]) == ("adjustment", -3, None)
    assert desk.coins(who.account)["remaining"] == 0
    assert desk.call(who) == 429
    assert adjust(desk, who.account, 1).status == 201
    assert [desk.call(who), desk.call(who)] == [200, 429]
    assert desk.admin.get("/audit")["clean"]


def test_an_adjustment_of_a_lot(desk: Office) -> None:
    who = desk.caller()
    lot = grant(desk, who.account, 10, expires="1h")["id"]  # burns before the month's own
    assert desk.call(who, "/four") == 200
    assert adjust(desk, who.account, -7, lot=lot).status == 400
    made = adjust(desk, who.account, -6, lot=lot).document
    assert (made["lot"], made["period_start"]) == (lot, None)
    assert desk.coins(who.account)["remaining"] == 5
    assert adjust(desk, who.account, 2, lot=lot).status == 201
    assert desk.coins(who.account)["remaining"] == 7
    other = desk.account()
    assert adjust(desk, other, 1, lot=lot).status == 400
    assert desk.admin.get("/audit")["clean"]


def test_a_topup_is_taken_back_only_where_it_is_not_used(desk: Office) -> None:
    who = desk.caller()
    desk.admin.make("/topups", account=who.account, meter="coins", amount=4)
    assert desk.call(who, "/four") == 200
    assert desk.call(who, "/four") == 200
    body = {"account": who.account, "meter": "coins", "amount": -2}
    assert desk.admin.ask("POST", "/topups", body).status == 400
    assert desk.admin.ask("POST", "/topups", {**body, "amount": -1}).status == 201
    assert desk.coins(who.account)["remaining"] == 0


def test_taking_back_and_calls_in_parallel_never_pass_what_there_is(desk: Office) -> None:
    who = desk.caller()
    desk.admin.make("/topups", account=who.account, meter="coins", amount=55)
    with ThreadPoolExecutor(12) as pool:
        taken = pool.map(lambda _: adjust(desk, who.account, -3).status, range(20))
        called = pool.map(lambda _: desk.call(who), range(60))
        taken_back, passed = Counter(taken), Counter(called)
    while desk.call(who) == 200:
        passed[200] += 1
    assert set(taken_back) <= {201, 400}
    assert passed[200] + 3 * taken_back[201] == 60
    figures = desk.coins(who.account)
    assert (figures["remaining"], figures["overage"]) == (0, 0)
    assert desk.admin.get("/audit")["clean"]


def test_figures_beyond_53_bits_are_refused(desk: Office) -> None:
    account = desk.account()
    body = {"account": account, "meter": "coins", "amount": 2**53 - 1 - 5}
    assert desk.admin.ask("POST", "/topups", body).status == 201
    for path, more in (("/topups", {}), ("/grants", {}), ("/adjustments", {"reason": "x"})):
        reply = desk.admin.ask("POST", path, {**body, "amount": 1, **more})
        assert reply.status == 400, reply
        assert "9,007,199,254,740,991" in reply.document["detail"]
    assert desk.coins(account)["remaining"] == 2**53 - 1


# -- refunds ----------------------------------------------------------------------


def test_a_refund_gives_back_what_was_charged_once(desk: Office) -> None:
    who = desk.caller()
    assert desk.call(who, "/four") == 200
    event = desk.event(who.account)
    body = {"account": who.account, "event": event["id"], "reason": "our fault"}
    with ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(lambda _: desk.admin.ask("POST", "/refunds", body), range(12)))
    assert Counter(reply.status for reply in replies) == {201: 1, 200: 11}
    assert len({str(reply.document) for reply in replies}) == 1
    (entry,) = replies[0].document["items"]
    assert (entry["kind"], entry["amount"], entry["reason"]) == ("refund", 4, "our fault")
    assert desk.coins(who.account)["remaining"] == 5
    assert [desk.call(who) for _ in range(6)] == [200] * 5 + [429]
    assert desk.admin.get("/audit")["clean"]


def test_a_refund_goes_back_to_the_lot_that_paid(desk: Office) -> None:
    who = desk.caller()
    lot = grant(desk, who.account, 3, expires="1h")["id"]
    assert desk.call(who, "/four") == 200  # three of the lot, one of the month's own
    body = {"account": who.account, "event": desk.event(who.account)["id"]}
    entries = desk.admin.make("/refunds", **body)["items"]
    assert {(entry["lot"], entry["amount"]) for entry in entries} == {(lot, 3), (None, 1)}
    figures = desk.coins(who.account)
    assert (figures["lots"][0]["left"], figures["remaining"]) == (3, 8)


def test_what_cannot_be_refunded(desk: Office) -> None:
    who = desk.caller()
    assert desk.call(who, "/free") == 200
    free = {"account": who.account, "event": desk.event(who.account)["id"]}
    assert desk.admin.ask("POST", "/refunds", free).status == 400
    for event in ("nothing", "0199-zz", free["event"]):
        other = {"account": desk.account(), "event": event}
        assert desk.admin.ask("POST", "/refunds", other).status == 404


# -- the ledger -------------------------------------------------------------------


def test_the_ledger_says_what_why_who_and_when(desk: Office) -> None:
    account = desk.account()
    grant(desk, account, 3, reason="welcome")
    desk.of("billing").make("/bundles", account=account, bundle="starter", id=f"{account}.order")
    adjust(desk, account, -2)
    whole = desk.admin.get("/ledger", account=account)["items"]
    assert [(entry["kind"], entry["amount"]) for entry in whole] == [
        ("adjustment", -2), ("bundle", 10), ("promotion", 3),
    ]  # fmt: skip
    assert [entry["reason"] for entry in whole] == ["test", "Starter", "welcome"]
    assert [entry["actor"] for entry in whole] == ["cli:unknown", "ops-billing", "cli:unknown"]
    assert [entry["time"] for entry in whole] == sorted((e["time"] for e in whole), reverse=True)
    paged: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        page = desk.admin.get("/ledger", account=account, limit="1", **cursor)
        paged += page["items"]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert paged == whole
    assert desk.admin.ask("GET", "/ledger", account=account, cursor="x").status == 400
    assert desk.admin.ask("GET", "/ledger").status == 400


def test_every_change_is_in_the_audit_log(desk: Office) -> None:
    account = desk.account()
    grant(desk, account, 3)
    adjust(desk, account, -2)
    adjust(desk, account, -200)
    found = desk.admin.get("/audit-log", subject=account)["items"]
    assert [entry["action"] for entry in found] == [
        "account.adjustment", "account.grant", "account.create",
    ]  # fmt: skip
    assert found[0]["after"]["amount"] == -2
    assert desk.admin.get("/audit-log", subject=account, action="account.grant")["items"] == [
        found[1]
    ]
    assert desk.admin.get("/audit-log", subject=account, actor="nobody")["items"] == []
