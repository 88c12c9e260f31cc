"""Accounts over the admin API, and what a change means to the next request."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.admin_client import Admin
from tests.api.conftest import status_of
from tests.support.stage import Stage


def test_create_show_list(admin: Admin, account: str) -> None:
    shown = admin.get(f"/accounts/{account}")
    assert shown == {
        "id": account,
        "title": account.title(),
        "plan": "small",
        "disabled": False,
        "cycle_start": "1970-01-05T00:00:00Z",
        "seats": 1,
        "overage": None,
        "cap": None,
        "timezone": "UTC",
        "settings": {},
        "allowances": {},
        "limits": {},
        "declared": False,
    }
    listed = admin.get("/accounts", limit="1000")
    assert shown in listed["items"]
    assert [item["id"] for item in listed["items"]] == sorted(i["id"] for i in listed["items"])


def test_pages_name_every_account_once(admin: Admin, account: str) -> None:
    whole = admin.get("/accounts", limit="1000")["items"]
    paged: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        page = admin.get("/accounts", limit="7", **cursor)
        assert len(page["items"]) <= 7
        paged += page["items"]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert paged == whole
    assert {item["declared"] for item in paged} == {True, False}


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({}, "id: expected a value"),
        ({"id": "a b"}, "id: expected a name of 1 to 64 letters"),
        ({"id": 5}, "id: expected a name"),
        ({"id": "ok", "plan": "smal"}, "found 'smal' (did you mean small?)"),
        ({"id": "ok", "plna": "small"}, "unknown field 'plna' (did you mean plan?)"),
        ({"id": "ok", "disabled": "no"}, "disabled: expected true or false, found 'no'"),
        ({"id": "ok", "cycle_start": "2026-13-01"}, "cycle_start: expected"),
        ({"id": "ok", "title": ""}, "title: expected one line"),
    ],
    ids=str,
)
def test_400_says_what_was_expected_and_found(admin: Admin, fields: Any, detail: str) -> None:
    reply = admin.ask("POST", "/accounts", fields)
    assert reply.status == 400, reply
    assert reply.headers["content-type"] == "application/problem+json"
    assert detail in reply.document["detail"]
    assert reply.document["parameter"]
    assert reply.document["request_id"] == reply.headers["x-request-id"]
    assert admin.ask("GET", "/accounts/ok").status == 404


def test_409_for_an_account_that_is_there(api: Stage, admin: Admin, account: str) -> None:
    for name in (account, api.newcomer().account):
        reply = admin.ask("POST", "/accounts", {"id": name})
        assert (reply.status, reply.code) == (409, "conflict")


def test_409_for_changing_a_declared_account(api: Stage, admin: Admin) -> None:
    name = api.newcomer().account
    reply = admin.ask("PATCH", f"/accounts/{name}", {"disabled": True})
    assert (reply.status, reply.code) == (409, "declared")
    assert "change it there and reload" in reply.document["detail"]


def test_disabling_counts_from_the_next_request(api: Stage, admin: Admin, account: str) -> None:
    who = admin.new_caller(account)
    assert status_of(api, who) == 200
    for disabled, status in ((True, 403), (False, 200), (True, 403)):
        assert admin.ask("PATCH", f"/accounts/{account}", {"disabled": disabled}).status == 200
        assert status_of(api, who) == status


def test_a_changed_plan_counts_from_the_next_request(
    api: Stage, admin: Admin, account: str
) -> None:
    who = admin.new_caller(account)
    assert [status_of(api, who) for _ in range(6)] == [200] * 5 + [429]
    assert admin.ask("PATCH", f"/accounts/{account}", {"plan": "precise"}).status == 200
    assert status_of(api, who) == 200
    figures = api.gateway.settled_usage(who)
    assert (figures["used"], figures["limit"]) == (6, 100)


def test_400_for_a_patch_of_nothing(admin: Admin, account: str) -> None:
    assert admin.ask("PATCH", f"/accounts/{account}", {}).code == "invalid_body"
    assert admin.ask("PATCH", f"/accounts/{account}", {"id": "other"}).code == "unknown_field"
    assert admin.ask("PATCH", "/accounts/nobody", {"disabled": True}).status == 404


def test_audit_log_has_before_and_after(admin: Admin, account: str) -> None:
    headers = {"X-Operator": "ada"}
    admin.ask("PATCH", f"/accounts/{account}", {"title": "Other"}, headers=headers)
    entry = admin.get("/audit-log", limit="1")["items"][0]
    assert (entry["action"], entry["subject"]) == ("account.change", account)
    assert (entry["actor"], entry["address"]) == ("cli:ada", "127.0.0.1")
    assert entry["before"] == {"title": account.title()}
    assert entry["after"] == {"title": "Other"}
    assert entry["time"].endswith("Z")


def test_audit_log_keeps_no_entry_of_what_did_not_happen(admin: Admin, account: str) -> None:
    newest = admin.get("/audit-log", limit="1")["items"][0]["id"]
    admin.ask("PATCH", f"/accounts/{account}", {"title": account.title()})
    admin.ask("PATCH", f"/accounts/{account}", {"plan": "nope"})
    admin.ask("POST", "/accounts", {"id": account})
    assert admin.get("/audit-log", limit="1")["items"][0]["id"] == newest
