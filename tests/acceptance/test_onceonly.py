"""OnceOnly: locks and runs, counted apart, in the documented shapes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.acceptance.shop import Customer, Shop
from tests.support.until import until

acceptance = pytest.mark.acceptance


def lock(who: Customer, key: str) -> int:
    return who.post("/v1/check-lock", {"key": key}).status


def run(who: Customer, key: str, how: str = "run") -> int:
    return who.post(f"/v1/ai/{how}", {"key": key}).status


def figures(who: Customer, **expected: Any) -> dict[str, Any]:
    """GET /v1/usage/all, once refusals have been counted and `kind_name` are as expected."""

    def shown() -> dict[str, Any]:
        answer = who.get("/v1/usage/all")
        assert answer.status == 200, answer
        return dict(answer.json())

    def enough(found: dict[str, Any]) -> bool:
        pairs = (name.split("_", 1) for name in expected)
        return all(
            found[kind][name] == value
            for (kind, name), value in zip(pairs, expected.values(), strict=True)
        )

    return until(shown, enough, what=f"{expected}", deadline_s=5.0)


@acceptance("ONCEONLY-01")
def test_usage_of_one_kind_has_exactly_the_documented_names(onceonly: Shop) -> None:
    who = onceonly.customer(plan="starter")
    lock(who, "a")
    run(who, "b")
    run(who, "c")
    for query, usage, limit in (("", 1, 20000), ("?kind=make", 1, 20000), ("?kind=ai", 2, 100000)):
        answer = who.get(f"/v1/usage{query}")
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("application/json")
        assert list(answer.json().items()) == [
            ("plan", "starter"),
            ("month", "2026-03"),
            ("usage", usage),
            ("limit", limit),
            ("requests_total_month", usage),
            ("blocked_total_month", 0),
        ]


@acceptance("ONCEONLY-02", "ONCEONLY-07")
def test_usage_of_all_kinds_has_exactly_the_documented_names(onceonly: Shop) -> None:
    who = onceonly.customer(plan="starter")
    lock(who, "a")
    run(who, "b", "lease")
    run(who, "b", "run")
    found = figures(who)
    assert found == {
        "plan": "starter",
        "month": "2026-03",
        "make": {
            "usage": 1,
            "limit": 20000,
            "requests_total_month": 1,
            "blocked_total_month": 0,
            "charged_total_month": 0,  # these two say something of ai only
            "polling_total_month": 0,
        },
        "ai": {
            "usage": 1,
            "limit": 100000,
            "requests_total_month": 2,
            "blocked_total_month": 0,
            "charged_total_month": 1,
            "polling_total_month": 1,
        },
    }


@acceptance("ONCEONLY-03")
def test_usage_of_all_kinds_sets_the_documented_headers(onceonly: Shop) -> None:
    who = onceonly.customer(plan="starter")
    first, second = who.get("/v1/usage/all"), who.get("/v1/usage/all")
    assert first.headers["x-onceonly-plan"] == "starter"
    assert first.headers["x-onceonly-month"] == "2026-03"
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert first.headers["x-request-id"]


@acceptance("ONCEONLY-04")
def test_the_counters_start_anew_with_the_utc_month(onceonly: Shop) -> None:
    who = onceonly.customer(plan="starter")
    lock(who, "a")
    run(who, "b")
    run(who, "b")
    onceonly.clock.go_to("2026-04-01T00:00:00Z", less_us=1)
    before = figures(who)
    assert (before["month"], before["make"]["usage"], before["ai"]["usage"]) == ("2026-03", 1, 1)
    assert before["ai"]["polling_total_month"] == 1
    onceonly.clock.go_to("2026-04-01T00:00:00Z")
    after = figures(who)
    assert after["month"] == "2026-04"
    for kind in ("make", "ai"):
        assert {n: v for n, v in after[kind].items() if n != "limit"} == {
            "usage": 0,
            "requests_total_month": 0,
            "blocked_total_month": 0,
            "charged_total_month": 0,
            "polling_total_month": 0,
        }
    assert who.get("/v1/usage").json()["month"] == "2026-04"


@acceptance("ONCEONLY-05")
def test_make_counts_all_requests_and_charges_those_that_locked(onceonly: Shop) -> None:
    who = onceonly.customer(plan="starter")
    assert [lock(who, key) for key in ("a", "b", "a", "a")] == [200, 200, 409, 409]
    make = figures(who)["make"]
    assert (make["usage"], make["requests_total_month"]) == (2, 4)


@acceptance("ONCEONLY-06", "ONCEONLY-07")
def test_the_backend_decides_what_was_newly_acquired(onceonly: Shop) -> None:
    who = onceonly.customer(plan="starter")
    assert run(who, "a", "lease") == 200
    for _ in range(3):
        assert run(who, "a", "run") == 200
    assert run(who, "b", "run") == 200
    assert run(who, "known", "run") == 200  # done long ago: neither acquired nor attached to
    assert run(who, "failing", "run") == 503
    ai = figures(who)["ai"]
    assert ai["usage"] == ai["charged_total_month"] == 2
    assert ai["polling_total_month"] == 3
    assert ai["requests_total_month"] == 7
    assert [e["outcome"] for e in who.events(operation="ai")][::-1] == [
        "charged", "polling", "polling", "polling", "charged", "not_charged", "not_charged",
    ]  # fmt: skip


@acceptance("ONCEONLY-08", "ONCEONLY-05")
def test_the_month_limit_blocks_and_blocked_requests_are_counted(onceonly: Shop) -> None:
    who = onceonly.customer()  # the free plan: 1,000 and 300
    statuses = []
    for number in range(303):
        statuses.append(run(who, f"k{number}"))
    assert statuses == [200] * 300 + [402] * 3
    found = figures(who, ai_blocked_total_month=3)["ai"]
    assert (found["usage"], found["limit"]) == (300, 300)
    assert found["requests_total_month"] == 303
    assert lock(who, "x") == 200  # the other kind has its own limit
    assert figures(who)["make"]["blocked_total_month"] == 0


@acceptance("ONCEONLY-08")
def test_only_the_month_limit_counts_as_blocked(onceonly: Shop) -> None:
    who = onceonly.customer()
    lock(who, "a")
    stranger = Customer(onceonly, who.account, "once_live_wrong")
    assert lock(stranger, "b") == 401
    for _ in range(600):
        last = lock(who, "a")
    assert last == 429  # faster than the plan allows
    onceonly.clock.go_on(seconds=60)
    who.spend("make", who.remaining("make"))
    assert lock(who, "c") == 402
    assert figures(who, make_blocked_total_month=1)["make"]["blocked_total_month"] == 1


@acceptance("ONCEONLY-09")
def test_errors_have_the_documented_bodies(onceonly: Shop) -> None:
    who = onceonly.customer()
    missing = onceonly.call("GET", "/v1/usage")
    assert (missing.status, missing.json()) == (
        401,
        {"detail": "Missing Authorization Bearer token"},
    )
    wrong = Customer(onceonly, who.account, "once_live_xxxxxxxxxxxxx").get("/v1/usage")
    assert (wrong.status, wrong.json()) == (401, {"detail": "Invalid API key"})
    for _ in range(601):
        limited = who.post("/v1/check-lock", {"key": "a"})
    assert (limited.status, limited.json()) == (429, {"detail": {"error": "rate_limited"}})
    for answer in (missing, wrong, limited):
        assert answer.headers["content-type"].startswith("application/json")


@acceptance("ONCEONLY-09")
def test_a_revoked_key_is_an_invalid_one(onceonly: Shop) -> None:
    who = onceonly.customer()
    (key,) = onceonly.admin.get("/keys", account=who.account)["items"]
    assert onceonly.admin.ask("DELETE", f"/keys/{key['id']}").status == 200
    answer = who.get("/v1/usage/all")
    assert (answer.status, answer.json()) == (401, {"detail": "Invalid API key"})


@acceptance("ONCEONLY-10")
def test_an_unknown_kind_is_refused_and_says_which_are_known(onceonly: Shop) -> None:
    who = onceonly.customer()
    refused = who.get("/v1/usage?kind=zapier")
    assert refused.status == 400
    text = refused.body.decode()
    assert "kind" in text and "make" in text and "ai" in text
    assert who.get("/v1/usage?kind=").status == 400


@acceptance("ONCEONLY-10")
def test_reading_usage_is_never_charged_nor_counted(onceonly: Shop) -> None:
    who = onceonly.customer()
    for _ in range(5):
        assert who.get("/v1/usage").status == 200
        assert who.get("/v1/usage?kind=ai").status == 200
        assert who.get("/v1/usage/all").status == 200
    found = figures(who)
    for kind in ("make", "ai"):
        assert found[kind]["usage"] == found[kind]["requests_total_month"] == 0
    assert who.events() == []
    who.spend("make", 1000)
    assert lock(who, "a") == 402
    assert who.get("/v1/usage").status == 200
