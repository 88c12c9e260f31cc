"""Operators by role: the whole table, asked of a running gateway with each role's token."""

from __future__ import annotations

import re

import pytest

from gateway.api.endpoints import ENDPOINTS, PREFIX, Endpoint
from gateway.api.roles import ACCOUNT_FIELDS, ROLES
from tests.api.admin_client import Admin
from tests.api.office import Office

# What each role may, beside reading. Written out, so that a change of the table is seen here.
MAY = {
    "billing": {
        "PATCH /accounts/{account}",
        "POST /topups",
        "POST /grants",
        "POST /bundles",
        "POST /adjustments",
        "POST /refunds",
    },
    "support": {
        "PATCH /accounts/{account}",
        "PUT /accounts/{account}/members/{user}",
        "DELETE /accounts/{account}/members/{user}",
        "POST /keys",
        "DELETE /keys/{key}",
        "POST /keys/{key}/rotate",
    },
    "reader": set(),
}
FIELDS = {
    "billing": {"plan", "seats", "overage", "cap", "allowances", "limits"},
    "support": {"settings"},
    "reader": set(),
}
VALUES = {
    "plan": "paid",
    "title": "Acme",
    "disabled": False,
    "cycle_start": "2026-01-05",
    "seats": 2,
    "overage": True,
    "cap": 10,
    "timezone": "Europe/Kyiv",
    "settings": {"ai": "off"},
    "allowances": {"coins": 7},
    "limits": {"own": 3},
}


def name_of(endpoint: Endpoint) -> str:
    return f"{endpoint.method} {endpoint.path}"


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=name_of)
def test_every_operation_for_every_role(desk: Office, endpoint: Endpoint, role: str) -> None:
    """Who may is told what is wrong with the request; who may not is told that alone."""
    path = re.sub(r"\{[a-z]+\}", "nobody", endpoint.path)
    body = {} if endpoint.method in ("POST", "PATCH", "PUT") else None
    reply = desk.of(role).ask(endpoint.method, path, body)
    may = role == "admin" or endpoint.method == "GET" or name_of(endpoint) in MAY[role]
    assert (reply.status == 403) is not may, reply
    if not may:
        assert reply.code == "forbidden"
        assert f"found {role}" in reply.document["detail"]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("field", ACCOUNT_FIELDS)
def test_every_field_of_an_account_for_every_role(desk: Office, field: str, role: str) -> None:
    account = desk.account()
    reply = desk.of(role).ask("PATCH", f"/accounts/{account}", {field: VALUES[field]})
    may = role == "admin" or field in FIELDS[role]
    assert reply.status == (200 if may else 403), reply


def test_a_change_with_one_field_too_many_changes_nothing(desk: Office) -> None:
    account = desk.account()
    reply = desk.of("billing").ask(
        "PATCH", f"/accounts/{account}", {"seats": 9, "settings": {"ai": "off"}}
    )
    assert (reply.status, reply.code) == (403, "forbidden")
    assert desk.admin.get(f"/accounts/{account}")["seats"] == 1


def test_401_for_a_token_that_nobody_has(desk: Office) -> None:
    stranger = Admin(desk.stage.gateway.data_dir, "token-of-nobody")
    reply = stranger.ask("GET", "/accounts")
    assert (reply.status, reply.code) == (401, "unauthorized")
    bare = {"Authorization": "Bearer "}
    assert desk.admin.raw("GET", f"{PREFIX}/accounts", None, bare).status == 401


def test_the_audit_log_names_the_operator_and_not_what_it_calls_itself(desk: Office) -> None:
    account = desk.account()
    desk.of("billing").ask(
        "PATCH", f"/accounts/{account}", {"seats": 3}, headers={"X-Operator": "root"}
    )
    (entry,) = desk.admin.get("/audit-log", subject=account, limit="1")["items"]
    assert (entry["actor"], entry["address"]) == ("ops-billing", "127.0.0.1")
    assert (entry["before"], entry["after"]) == ({"seats": 1}, {"seats": 3})
