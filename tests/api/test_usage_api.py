"""The callers' own usage: exact, consistent, theirs alone, never charged."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.api.admin_client import Admin
from tests.api.conftest import status_of
from tests.support.configs import Caller
from tests.support.raw import connected, exchange, head
from tests.support.stage import Stage


def summary(api: Stage, who: Caller) -> Any:
    answer = api.gateway.get("/v1/usage", who)
    assert answer.status == 200, answer
    return answer.json()


def activity(api: Stage, who: Caller, query: str = "") -> Any:
    answer = api.gateway.get(f"/v1/usage/activity{query}", who)
    assert answer.status == 200, answer
    return answer.json()


def test_summary_names_everything(api: Stage, precise: Caller) -> None:
    for path in ("/one", "/two", "/two", "/free"):
        assert status_of(api, precise, path) == 200
    document = summary(api, precise)
    assert (document["account"], document["plan"]) == (precise.account, "precise")
    coins, credits = document["meters"]["coins"], document["meters"]["credits"]
    assert (coins["title"], coins["used"], coins["remaining"], coins["limit"]) == (
        "Coins",
        5,
        95,
        100,
    )
    assert (coins["in_flight"], coins["topped_up"], coins["when_exhausted"]) == (0, 0, "block")
    assert coins["operations"] == [
        {"operation": "Two", "events": 2, "amount": 4, "percent": 80.0},
        {"operation": "One", "events": 1, "amount": 1, "percent": 20.0},
    ]
    assert credits["when_exhausted"] == "overage"
    assert credits["period"]["start"][8:] == credits["period"]["end"][8:] == "01T00:00:00Z"


def test_amounts_with_decimals_are_exact_text(api: Stage, precise: Caller) -> None:
    for _ in range(3):
        assert status_of(api, precise, "/two") == 200
    credits = summary(api, precise)["meters"]["credits"]
    assert (credits["used"], credits["remaining"], credits["limit"]) == ("0.75", "9.25", "10.00")
    assert credits["operations"][0]["amount"] == "0.75"


def test_rate_limits_as_they_stand_for_the_caller(api: Stage, precise: Caller) -> None:
    for _ in range(3):
        assert status_of(api, precise) == 200
    limits = {limit["name"]: limit for limit in summary(api, precise)["rate_limits"]}
    hourly = limits["hourly"]
    assert (hourly["kind"], hourly["per"], hourly["period_s"]) == ("rate", "account", 3600)
    assert (hourly["limit"], hourly["used"], hourly["remaining"]) == (100, 3, 97)
    assert hourly["resets_at"].endswith("00:00Z")
    assert (limits["parallel"]["kind"], limits["parallel"]["remaining"]) == ("concurrency", 5)


def test_asking_counts_nowhere(api: Stage, precise: Caller) -> None:
    before = summary(api, precise)
    for _ in range(5):
        assert activity(api, precise)["items"] == []
        assert summary(api, precise) == before
    assert api.recorded(precise) == []


def test_last_call_is_there_at_once(api: Stage, precise: Caller) -> None:
    for n in range(1, 11):
        assert status_of(api, precise) == 200
        coins = summary(api, precise)["meters"]["coins"]
        assert coins["used"] == n
        assert coins["operations"][0]["amount"] == n
        assert len(activity(api, precise)["items"]) == n


def test_figures_agree_under_load(api: Stage, admin: Admin) -> None:
    account = "busy"
    admin.make("/accounts", id=account, plan="precise")
    who = admin.new_caller(account)
    stop = threading.Event()

    def call() -> None:
        while not stop.is_set():
            status_of(api, who)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(40):
            coins = summary(api, who)["meters"]["coins"]
            assert sum(row["amount"] for row in coins["operations"]) == coins["used"]
            assert coins["used"] + coins["in_flight"] + coins["remaining"] == coins["limit"]
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_browsers_and_nobody(api: Stage) -> None:
    for path in ("/v1/usage", "/v1/usage/activity"):
        answer = api.gateway.get(path)
        assert (answer.status, answer.code) == (401, "unauthorized")
        assert answer.get("www-authenticate") == "Bearer"
        wrong = Caller("x", "tg_live_" + "0" * 38)
        assert api.gateway.get(path, wrong).status == 401


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/v1/usage", "/v1/usage/activity"])
def test_405_names_the_methods(api: Stage, precise: Caller, method: str, path: str) -> None:
    answer = api.gateway.call(method, path, precise, body=b"x=1")
    assert (answer.status, answer.code) == (405, "method_not_allowed")
    assert answer.get("allow") == "GET, HEAD"


def test_405_with_an_unread_body_closes(api: Stage, precise: Caller) -> None:
    """What is left of the body is never taken for the next request."""
    with connected(api.port) as connection:
        connection.send(head("POST", "/v1/usage", precise.bearer, "Content-Length: 50"))
        assert connection.answer("POST").status == 405
        assert connection.is_closed()
    assert api.recorded(precise) == []


def test_head_has_the_head_of_get(api: Stage, precise: Caller) -> None:
    got = api.gateway.get("/v1/usage", precise)
    answer = api.gateway.call("HEAD", "/v1/usage", precise)
    assert (answer.status, answer.body) == (200, b"")
    assert answer.get("content-type") == got.get("content-type") == "application/json"
    assert answer.get("cache-control") == "no-store"


def test_keep_alive_goes_on(api: Stage, precise: Caller) -> None:
    with connected(api.port) as connection:
        for path in ("/v1/usage", "/one", "/v1/usage/activity", "/v1/usage"):
            connection.send(head("GET", path, precise.bearer))
            assert connection.answer().status == 200


def test_activity_is_newest_first_and_complete(api: Stage, precise: Caller) -> None:
    paths = ["/one", "/two", "/free", "/one"]
    for path in paths:
        assert status_of(api, precise, path) == 200
    items = activity(api, precise)["items"]
    assert [item["path"] for item in items] == paths[::-1]
    assert items[2]["charges"] == {"coins": 2, "credits": "0.25"}
    assert items[1]["charges"] == {}
    assert items[0]["duration_ms"] > 0


def test_activity_pages(api: Stage, precise: Caller) -> None:
    for _ in range(7):
        assert status_of(api, precise) == 200
    whole = activity(api, precise)["items"]
    paged: list[Any] = []
    query = "?limit=3"
    while True:
        page = activity(api, precise, query)
        paged += page["items"]
        if page["next"] is None:
            break
        query = f"?limit=3&cursor={page['next']}"
    assert paged == whole
    assert len(whole) == 7


def test_activity_filters(api: Stage, precise: Caller) -> None:
    for path in ("/one", "/two", "/free"):
        assert status_of(api, precise, path) == 200

    def paths(query: str) -> list[str]:
        return sorted(item["path"] for item in activity(api, precise, query)["items"])

    assert paths("?operation=Two") == ["/two"]
    assert paths("?route=free&outcome=free") == ["/free"]
    assert paths("?meter=coins&from=2020-01-01&to=2100-01-01T00:00:00Z") == ["/one", "/two"]
    assert paths("?user=ada&project=web") == ["/free", "/one", "/two"]
    assert paths("?from=2100-01-01") == []


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("?limit=0", "limit"),
        ("?limit=1001", "limit"),
        ("?limit=ten", "limit"),
        ("?from=yesterday", "from"),
        ("?to=2026-02-30", "to"),
        ("?cursor=abc", "cursor"),
        ("?sort=asc", "sort"),
        ("?account=acct-001", "account"),
        ("?limit=1&limit=2", "limit"),
        ("?user=%FF", "query"),
    ],
)
def test_400_names_the_parameter(api: Stage, precise: Caller, query: str, parameter: str) -> None:
    answer = api.gateway.get(f"/v1/usage/activity{query}", precise)
    assert (answer.status, answer.code) == (400, "bad_request")
    assert answer.get("content-type") == "application/problem+json"
    assert parameter in answer.json()["detail"]


def test_nobody_sees_anothers(api: Stage, admin: Admin, precise: Caller, account: str) -> None:
    other = admin.new_caller(account)
    assert status_of(api, precise) == 200
    assert activity(api, other)["items"] == []
    theirs = activity(api, precise)
    cursor = activity(api, precise, "?limit=1")["next"]
    assert theirs["items"]
    if cursor:
        assert activity(api, other, f"?cursor={cursor}")["items"] == []
    assert summary(api, other)["account"] == account
    assert "precise" not in str(summary(api, other)["meters"])


def test_encoded_and_odd_paths_do_not_reach_another_answer(api: Stage, precise: Caller) -> None:
    for target in ("/v1/usage/", "/v1/%75sage"):
        answer = exchange(api.port, head("GET", target, precise.bearer, "Connection: close"))
        assert answer.status in (200, 404)
    assert api.recorded(precise) == []
