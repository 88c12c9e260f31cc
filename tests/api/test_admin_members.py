"""Members, settings and the switch for overage: who may change what, and what is recorded."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from tests.api.office import Office


def newest(desk: Office, account: str) -> dict[str, Any]:
    return dict(desk.admin.get("/audit-log", subject=account, limit="1")["items"][0])


def test_set_list_and_remove(desk: Office) -> None:
    account = desk.account()
    for user, role in (("zoe", "member"), ("ada", "owner"), ("zoe", "manager")):
        desk.member(account, user, role)
    listed = desk.admin.get(f"/accounts/{account}/members")
    assert listed["items"] == [
        {"user": "ada", "role": "owner"},
        {"user": "zoe", "role": "manager"},
    ]
    first = desk.admin.get(f"/accounts/{account}/members", limit="1")
    second = desk.admin.get(f"/accounts/{account}/members", limit="1", cursor=first["next"])
    assert [*first["items"], *second["items"]] == listed["items"]
    removed = desk.admin.ask("DELETE", f"/accounts/{account}/members/zoe")
    assert (removed.status, removed.document) == (200, {"user": "zoe", "role": "manager"})
    assert desk.admin.ask("DELETE", f"/accounts/{account}/members/zoe").status == 404
    actions = [
        (entry["action"], entry["subject"], entry["before"], entry["after"])
        for entry in desk.admin.get("/audit-log", subject=account)["items"]
    ]
    assert actions[:3] == [
        ("member.remove", f"{account}/zoe", "manager", None),
        ("member.set", f"{account}/zoe", "member", "manager"),
        ("member.set", f"{account}/ada", None, "owner"),
    ]


@pytest.mark.parametrize("user", ["ada@example.com", "a/b", "a%2Fb", "x?y=1#z"])
def test_users_have_any_name(desk: Office, user: str) -> None:
    account = desk.account()
    path = f"/accounts/{account}/members/{quote(user, safe='')}"
    assert desk.admin.ask("PUT", path, {"role": "member"}).document["user"] == user
    assert desk.admin.get(f"/accounts/{account}/members")["items"][0]["user"] == user
    assert desk.admin.ask("DELETE", path).document["user"] == user


def test_declared_members_are_listed_and_changed_in_the_configuration(desk: Office) -> None:
    assert desk.admin.get("/accounts/declared/members")["items"] == [
        {"user": "dora", "role": "owner"}
    ]
    for method, body in (("PUT", {"role": "member"}), ("DELETE", None)):
        reply = desk.admin.ask(method, "/accounts/declared/members/dora", body)
        assert (reply.status, reply.code) == (409, "declared")


def test_400_for_a_role_that_is_not_configured(desk: Office) -> None:
    reply = desk.admin.ask("PUT", f"/accounts/{desk.account()}/members/ada", {"role": "ownr"})
    assert reply.status == 400
    assert "did you mean owner?" in reply.document["detail"]


@pytest.mark.parametrize(
    ("role", "change", "may"),
    [
        ("owner", {"settings": {"ai": "off"}}, True),
        ("manager", {"settings": {"ai": "off"}}, False),
        ("manager", {"settings": {"quality": "high"}}, True),
        ("manager", {"settings": {"quality": "high", "ai": "off"}}, False),
        ("member", {"settings": {"quality": "high"}}, False),
        ("owner", {"overage": True}, True),
        ("manager", {"cap": "12.50"}, True),
        ("member", {"overage": True}, False),
        ("member", {"overage": None}, False),
        ("member", {"cap": 5}, False),
        ("owner", {"allowances": {"coins": 9}}, True),
        ("manager", {"limits": {"own": 9}}, True),
        ("member", {"limits": {"own": 9}}, False),
        ("owner", {"plan": "enterprise"}, False),
        ("owner", {"seats": 100}, False),
        ("owner", {"disabled": True}, False),
        ("owner", {"overage": True, "seats": 2}, False),
    ],
    ids=str,
)
def test_a_members_role_decides(desk: Office, role: str, change: dict[str, Any], may: bool) -> None:
    account = desk.account()
    desk.member(account, "ada", role)
    before = desk.admin.get(f"/accounts/{account}")
    logged = newest(desk, account)["id"]
    reply = desk.admin.ask("PATCH", f"/accounts/{account}", {**change, "as": "ada"})
    assert reply.status == (200 if may else 403), reply
    if not may:
        assert reply.code == "forbidden"
        assert desk.admin.get(f"/accounts/{account}") == before
        assert newest(desk, account)["id"] == logged


def test_403_for_somebody_who_is_no_member(desk: Office) -> None:
    account = desk.account()
    body = {"settings": {"ai": "off"}, "as": "mallory"}
    reply = desk.admin.ask("PATCH", f"/accounts/{account}", body)
    assert (reply.status, reply.code) == (403, "forbidden")
    assert "'mallory' is no member" in reply.document["detail"]


def test_a_members_role_does_not_give_an_operator_more(desk: Office) -> None:
    account = desk.account()
    desk.member(account, "ada", "owner")
    body = {"settings": {"ai": "off"}, "as": "ada"}
    assert desk.of("billing").ask("PATCH", f"/accounts/{account}", body).status == 403
    assert desk.of("support").ask("PATCH", f"/accounts/{account}", body).status == 200


def test_consent_to_overage_is_recorded_with_user_address_and_time(desk: Office) -> None:
    account = desk.account()
    desk.member(account, "ada", "manager")
    for overage, action in ((True, "account.overage_on"), (False, "account.overage_off")):
        body = {"overage": overage, "as": "ada", "as_address": "203.0.113.9"}
        assert desk.of("billing").ask("PATCH", f"/accounts/{account}", body).status == 200
        (entry,) = desk.admin.get("/audit-log", subject=account, action=action)["items"]
        assert (entry["member"], entry["member_address"]) == ("ada", "203.0.113.9")
        assert (entry["actor"], entry["address"]) == ("ops-billing", "127.0.0.1")
        assert entry["after"] == {"overage": overage}
        assert entry["time"].endswith("Z")
    reply = desk.admin.ask(
        "PATCH", f"/accounts/{account}", {"cap": 1, "as": "ada", "as_address": "somewhere"}
    )
    assert (reply.status, reply.document["parameter"]) == (400, "as_address")


def test_the_switch_counts_from_the_next_request(desk: Office) -> None:
    who = desk.caller()
    assert [desk.call(who) for _ in range(6)] == [200] * 5 + [429]
    for overage, status in ((True, 200), (False, 429), (True, 200), (None, 429)):
        path = f"/accounts/{who.account}"
        assert desk.admin.ask("PATCH", path, {"overage": overage}).status == 200
        assert desk.call(who) == status
    assert desk.coins(who.account)["overage"] == 2


@pytest.mark.parametrize("plan", ["free", "enterprise"])
def test_plans_that_never_go_into_overage(desk: Office, plan: str) -> None:
    """Neither by the switch nor by a consent that was given for another plan."""
    account = desk.account(plan)
    reply = desk.admin.ask("PATCH", f"/accounts/{account}", {"overage": True})
    assert (reply.status, reply.document["parameter"]) == (400, "overage")
    paid = desk.account(overage=True)
    moved = desk.admin.ask("PATCH", f"/accounts/{paid}", {"plan": plan}).document
    assert (moved["plan"], moved["overage"]) == (plan, None)
    back = desk.admin.ask("PATCH", f"/accounts/{paid}", {"plan": "paid"}).document
    assert back["overage"] is None


def test_settings_count_from_the_next_request_and_null_is_the_default(desk: Office) -> None:
    who = desk.caller()
    path = f"/accounts/{who.account}"
    for value, status in (("off", 403), ("on", 200), ("off", 403), (None, 200)):
        changed = desk.admin.ask("PATCH", path, {"settings": {"ai": value}}).document
        assert changed["settings"] == {"ai": value or "on", "quality": "low"}
        assert desk.call(who, "/ai") == status


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"settings": {"ia": "on"}}, "found 'ia' (known: ai, quality)"),
        ({"settings": {"ai": "maybe"}}, "settings.ai: expected one of on, off"),
        ({"settings": {"ai": True}}, "settings.ai: expected one of on, off"),
        ({"settings": ["ai"]}, "settings: expected an object"),
        ({"allowances": {"credits": 5}}, "the name of a settable allowance"),
        ({"allowances": {"coins": "1.5"}}, "allowances.coins: expected at most 0 digits"),
        ({"allowances": {"coins": -1}}, "allowances.coins: expected an amount of 0 or more"),
        ({"limits": {"own": 101}}, "0 for unlimited, or a whole number from 1 to 100"),
        ({"limits": {"own": True}}, "0 for unlimited"),
        ({"limits": {"mine": 1}}, "the name of a settable limit"),
        ({"cap": -1}, "cap: expected an amount of 0 or more"),
        ({"cap": "1.1234567"}, "cap: expected dollars"),
        ({"cap": 1.5}, "cap: expected dollars"),
        ({"seats": -1}, "seats: expected a whole number"),
        ({"timezone": "Europe/Kiew"}, "timezone: expected a time zone"),
        ({"overage": "on"}, "overage: expected true or false"),
        ({"as": "ada"}, "expected one of plan"),
    ],
    ids=str,
)
def test_400_says_what_was_expected(desk: Office, change: dict[str, Any], detail: str) -> None:
    account = desk.account()
    before = desk.admin.get(f"/accounts/{account}")
    reply = desk.admin.ask("PATCH", f"/accounts/{account}", change)
    assert reply.status == 400, reply
    assert detail in reply.document["detail"]
    assert desk.admin.get(f"/accounts/{account}") == before


def test_seats_amounts_and_quotas_count_at_once(desk: Office) -> None:
    who = desk.caller()
    path = f"/accounts/{who.account}"
    desk.call(who)
    changed = desk.admin.ask(
        "PATCH", path, {"seats": 3, "allowances": {"coins": 7}, "limits": {"own": 4}}
    ).document
    assert (changed["seats"], changed["allowances"], changed["limits"]) == (
        3, {"coins": 7}, {"own": 4},
    )  # fmt: skip
    meters = desk.admin.get(f"/usage/{who.account}")["meters"]
    assert (meters["coins"]["limit"], meters["coins"]["used"]) == (7, 1)
    assert meters["credits"]["limit"] == "30.00"
    assert [desk.call(who) for _ in range(5)] == [200] * 4 + [429]
    changed = desk.admin.ask(
        "PATCH", path, {"allowances": {"coins": None}, "limits": {"own": None}}
    ).document
    assert (changed["allowances"], changed["limits"]) == ({}, {})
    assert desk.coins(who.account)["limit"] == 5
