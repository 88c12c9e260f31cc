"""Usage, events and the audit over the admin API."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.api.admin_client import Admin
from tests.api.conftest import status_of
from tests.support.configs import Caller
from tests.support.stage import Stage

EVENT_FIELDS = {
    "id", "time", "account", "user", "project", "key", "caller", "source", "service", "operation",
    "route", "method", "path", "status", "outcome", "charges", "bytes_in", "bytes_out",
    "duration_ms", "upstream_ms", "request_id", "price_book",
}  # fmt: skip


def test_usage_is_what_the_caller_sees(api: Stage, admin: Admin, precise: Caller) -> None:
    for path in ("/one", "/two", "/two"):
        assert status_of(api, precise, path) == 200
    theirs = api.gateway.get("/v1/usage", precise).json()
    ours = admin.get(f"/usage/{precise.account}")
    assert ours["meters"] == theirs["meters"]
    assert admin.ask("GET", "/usage/nobody").status == 404


def test_usage_of_an_account_that_never_called(admin: Admin, account: str) -> None:
    document = admin.get(f"/usage/{account}")
    assert document["meters"]["coins"]["used"] == 0
    assert document["meters"]["coins"]["operations"] == []
    assert "credits" not in document["meters"]


def test_events_have_every_field(api: Stage, admin: Admin, precise: Caller) -> None:
    api.gateway.get("/two?x=1", precise, "X-Request-Id: mine-1")
    (event,) = admin.get("/events", account=precise.account)["items"]
    assert event.keys() == EVENT_FIELDS
    assert event["charges"] == {"coins": 2, "credits": "0.25"}
    assert (event["user"], event["project"], event["caller"]) == ("ada", "web", "api_key")
    assert (event["path"], event["status"], event["outcome"]) == ("/two", 200, "charged")
    assert event["request_id"] == "mine-1"


def test_event_filters(api: Stage, admin: Admin, precise: Caller) -> None:
    for path in ("/one", "/two", "/free"):
        assert status_of(api, precise, path) == 200

    def routes(**filters: str) -> list[str]:
        items = admin.get("/events", account=precise.account, **filters)["items"]
        return sorted(item["route"] for item in items)

    assert routes() == ["free", "one", "two"]
    assert routes(route="one") == ["one"]
    assert routes(operation="Two") == ["two"]
    assert routes(outcome="free") == ["free"]
    assert routes(meter="credits") == ["two"]
    assert routes(user="ada", project="web") == ["free", "one", "two"]
    assert routes(user="bob") == []
    assert routes(**{"from": "2100-01-01"}) == []
    assert routes(to="2100-01-01T00:00:00Z", status_min="200") == ["free", "one", "two"]


def test_filters_over_all_accounts(api: Stage, admin: Admin, precise: Caller) -> None:
    for path in ("/one", "/two", "/free"):
        assert status_of(api, precise, path) == 200
    key = admin.get("/events", account=precise.account, limit="1")["items"][0]["key"]
    found: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        page = admin.get("/events", key=key, limit="2", **cursor)
        assert len(page["items"]) <= 2
        found += page["items"]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert [item["route"] for item in found] == ["free", "two", "one"]


def test_pages_neither_miss_nor_repeat(api: Stage, admin: Admin, precise: Caller) -> None:
    for _ in range(10):
        assert status_of(api, precise) == 200
    for more in ({"account": precise.account}, {}):
        whole = admin.get("/events", limit="1000", **more)["items"]
        assert len(whole) >= 10
        paged: list[Any] = []
        cursor: dict[str, str] = {}
        while len(paged) < len(whole):
            page = admin.get("/events", limit="3", **more, **cursor)
            paged += page["items"]
            cursor = {"cursor": page["next"] or ""}
            status_of(api, precise, "/free")  # new ones come while pages are turned
        assert [e["id"] for e in paged[: len(whole)]] == [e["id"] for e in whole]


def test_follow_gives_each_event_once(api: Stage, admin: Admin, precise: Caller) -> None:
    follow = admin.get("/events", limit="1")["follow"]
    assert admin.get("/events", after=follow)["items"] == []
    for path in ("/one", "/two"):
        assert status_of(api, precise, path) == 200
    page = admin.get("/events", after=follow)
    assert [item["route"] for item in page["items"]] == ["one", "two"]
    assert admin.get("/events", after=page["follow"])["items"] == []


def test_long_poll_answers_when_something_comes(api: Stage, admin: Admin, precise: Caller) -> None:
    follow = admin.get("/events", limit="1")["follow"]
    assert admin.get("/events", after=follow)["items"] == []  # nothing is there when it asks
    timer = threading.Timer(0.5, lambda: status_of(api, precise))
    timer.start()
    page = admin.get("/events", after=follow, wait="20")
    timer.join()
    assert [item["route"] for item in page["items"]] == ["one"]


def test_long_poll_ends_by_itself(admin: Admin) -> None:
    follow = admin.get("/events", limit="1")["follow"]
    assert admin.get("/events", after=follow, wait="1")["items"] == []


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ({"form": "2026-01-01"}, "unknown parameter 'form' (did you mean from?)"),
        ({"from": "yesterday"}, "from: expected"),
        ({"limit": "0"}, "limit: expected"),
        ({"limit": "1001"}, "limit: expected"),
        ({"cursor": "x"}, "cursor: expected"),
        ({"after": "-1"}, "after: expected"),
        ({"wait": "5"}, "wait: expected together with after"),
        ({"after": "1", "wait": "31"}, "wait: expected a whole number from 0 to 30"),
        ({"account": "nobody"}, "there is no account 'nobody'"),
        ({"account": "acct-000", "cursor": "x"}, "cursor: expected"),
    ],
    ids=str,
)
def test_400_names_the_parameter(admin: Admin, query: dict[str, str], detail: str) -> None:
    reply = admin.ask("GET", "/events", **query)
    assert reply.status in (400, 404), reply
    assert detail in reply.document["detail"]


def test_audit_is_clean_under_load(api: Stage, admin: Admin) -> None:
    account = "audited"
    admin.make("/accounts", id=account, plan="precise")
    who = admin.new_caller(account)
    stop = threading.Event()

    def call() -> None:
        while not stop.is_set():
            status_of(api, who)
            admin.ask("POST", "/topups", {"account": account, "meter": "coins", "amount": 1})

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        reports = [admin.get("/audit") for _ in range(15)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert [report["differences"] for report in reports] == [[]] * 15
    assert all(report["clean"] for report in reports)
    assert reports[-1]["events"] > reports[0]["events"]
    assert reports[-1]["counters"] > 0
