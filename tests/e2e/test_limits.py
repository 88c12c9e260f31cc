"""Limits and budgets over real HTTP: who is let through, and how a refusal explains itself."""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support import scripts
from tests.support.configs import Caller, caller, key_entry, pool, route
from tests.support.raw import Answer, connected, head
from tests.support.stage import Stage, stage

PARALLEL = 100
LIMIT_FIELDS = {"name", "kind", "limit", "used", "remaining", "resets_at", "refused"}


def allowance(amount: int, **more: Any) -> dict[str, Any]:
    return {"allowances": {"coins": {"amount": amount, "per": "week", **more}}}


PLANS: dict[str, Any] = {
    "seven": allowance(7),
    "pays": allowance(3, status=402),
    "overage": allowance(3, when_exhausted="overage"),
    "monthly": {"allowances": {"coins": {"amount": 3, "per": "month"}}},
    "hourly": {"limits": {"hourly": "5/hour"}},
    "burst": {"limits": {"burst": {"rate": "60/hour", "per": "key", "algorithm": "gcra",
    "burst": 3}}},
    "parallel": {"limits": {"parallel": {"concurrent": 2, "per": "account"}}},
    "several": {
        **allowance(4),
        "limits": {"roomy-hour": "1000/hour", "tight-day": "2/day",
                   "parallel": {"concurrent": 50, "per": "account"}},
    },
}  # fmt: skip
POOLS = {plan: pool(plan, 12) for plan in PLANS}
EXPIRED, FENCED, BOUND, DISABLED = (caller(n) for n in ("expired", "fenced", "bound", "disabled"))


@pytest.fixture(scope="module")
def limits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    routes = [
        route("GET,POST /one", {"coins": 1}),
        route("GET /five", {"coins": 5}),
        route("GET /free"),
        route("POST /small", {"coins": 1}, max_body="1KB"),
        route("GET /named", {"coins": 1}, name="named", limits={"on-route": "2/hour"}),
        route("GET /wait/{id}", {"coins": 1}),
    ]
    with stage(
        tmp_path_factory.mktemp("limits"),
        routes,
        callers=POOLS,
        plans=PLANS,
        accounts=20,
        keys=[
            key_entry(EXPIRED, expires="2020-01-01T00:00:00Z"),
            key_entry(FENCED, networks=["10.0.0.0/8"]),
            key_entry(BOUND, routes=["named"]),
            key_entry(DISABLED),
        ],
        extra_accounts={
            "expired": {"plan": "roomy"},
            "fenced": {"plan": "roomy"},
            "bound": {"plan": "roomy"},
            "disabled": {"plan": "roomy", "disabled": True},
        },
    ) as running:
        yield running


_taken: Counter[str] = Counter()


@pytest.fixture
def on_plan(request: pytest.FixtureRequest) -> Caller:
    """A new account on the plan that the test's marker names."""
    marker = request.node.get_closest_marker("plan")
    plan = marker.args[0]
    _taken[plan] += 1
    return POOLS[plan][_taken[plan] - 1]


def ask(limits: Stage, who: Caller, path: str = "/one", method: str = "GET") -> Answer:
    return limits.ask(head(method, path, who.bearer, "Connection: close"), method)


def in_parallel(limits: Stage, who: Caller, count: int, path: str = "/one") -> Counter[int]:
    """The statuses of so many requests at once."""
    with ThreadPoolExecutor(50) as workers:
        return Counter(workers.map(lambda _: ask(limits, who, path).status, range(count)))


def refused_row(answer: Answer) -> dict[str, Any]:
    """The one limit that a refusal says has refused."""
    document = answer.json()
    assert {"type", "title", "status", "detail", "code", "request_id"} <= document.keys()
    assert document["status"] == answer.status
    assert document["request_id"] == answer.get("x-request-id")
    rows: list[dict[str, Any]] = document["limits"]
    assert all(row.keys() >= LIMIT_FIELDS for row in rows), rows
    (row,) = [row for row in rows if row["refused"]]
    return row


def assert_explained(answer: Answer, name: str) -> dict[str, Any]:
    """Headers and body of a refusal by a limit agree with each other."""
    row = refused_row(answer)
    assert row["name"] == name
    retry_after = int(answer.get("retry-after") or 0)
    assert retry_after >= 1
    assert answer.json()["retry_after_s"] == retry_after
    found = re.search(rf'"{name}";r=(\d+);t=(\d+)', answer.get("ratelimit") or "")
    assert found, answer.headers
    assert retry_after >= int(found[2])
    resets = datetime.datetime.fromisoformat(row["resets_at"])
    left_s = (resets - datetime.datetime.now(datetime.UTC)).total_seconds()
    assert left_s <= retry_after + 1
    return row


@pytest.mark.plan("seven")
def test_budget_of_7_lets_exactly_7_of_100_through(limits: Stage, on_plan: Caller) -> None:
    statuses = in_parallel(limits, on_plan, PARALLEL)
    assert statuses == {200: 7, 429: PARALLEL - 7}
    assert len(limits.recorded(on_plan)) == 7
    assert limits.used(on_plan) == 7
    events = limits.gateway.events(account=on_plan.account)
    assert len([e for e in events if e.charges]) == 7


@pytest.mark.plan("seven")
def test_budget_takes_what_still_fits(limits: Stage, on_plan: Caller) -> None:
    """7 coins: one call of 5, then no second, but two of 1."""
    assert [ask(limits, on_plan, "/five").status for _ in range(2)] == [200, 429]
    assert [ask(limits, on_plan).status for _ in range(3)] == [200, 200, 429]
    assert limits.used(on_plan) == 7


@pytest.mark.plan("seven")
def test_budget_race_of_different_prices_never_overspends(limits: Stage, on_plan: Caller) -> None:
    with ThreadPoolExecutor(30) as workers:
        paths = ["/five", "/one"] * 30
        list(workers.map(lambda path: ask(limits, on_plan, path).status, paths))
    paid = sum(5 if r.target == "/five" else 1 for r in limits.recorded(on_plan))
    assert paid == limits.used(on_plan) <= 7


@pytest.mark.plan("seven")
def test_exhausted_budget_explains_itself(limits: Stage, on_plan: Caller) -> None:
    assert ask(limits, on_plan, "/five").status == 200
    answer = ask(limits, on_plan, "/five")
    assert (answer.status, answer.code) == (429, "budget_exhausted")
    row = assert_explained(answer, "coins")
    assert (row["kind"], row["limit"], row["used"], row["remaining"]) == ("budget", 7, 5, 2)
    assert limits.used(on_plan) == 5


@pytest.mark.plan("seven")
def test_free_route_passes_when_the_budget_is_exhausted(limits: Stage, on_plan: Caller) -> None:
    in_parallel(limits, on_plan, 10)
    assert ask(limits, on_plan, "/free").status == 200
    assert ask(limits, on_plan).status == 429


@pytest.mark.plan("pays")
def test_budget_status_may_be_402(limits: Stage, on_plan: Caller) -> None:
    assert in_parallel(limits, on_plan, 5) == {200: 3, 402: 2}
    assert ask(limits, on_plan).code == "budget_exhausted"


@pytest.mark.plan("overage")
def test_overage_lets_more_through_and_counts_it(limits: Stage, on_plan: Caller) -> None:
    assert in_parallel(limits, on_plan, 6) == {200: 6}
    figures = limits.gateway.settled_usage(on_plan)
    assert (figures["used"], figures["remaining"], figures["limit"]) == (6, 0, 3)


@pytest.mark.plan("monthly")
def test_monthly_budget_is_the_calendar_month(limits: Stage, on_plan: Caller) -> None:
    assert in_parallel(limits, on_plan, 4) == {200: 3, 429: 1}
    period = limits.gateway.usage(on_plan)["period"]
    assert period["start"][8:] == period["end"][8:] == "01T00:00:00Z"


@pytest.mark.plan("hourly")
def test_hourly_limit_lets_exactly_its_number_through(limits: Stage, on_plan: Caller) -> None:
    assert in_parallel(limits, on_plan, 20) == {200: 5, 429: 15}
    answer = ask(limits, on_plan)
    assert answer.code == "rate_limited"
    row = assert_explained(answer, "hourly")
    assert (row["kind"], row["limit"], row["used"], row["remaining"]) == ("rate", 5, 5, 0)
    assert row["resets_at"][14:] == "00:00Z"


@pytest.mark.plan("burst")
def test_gcra_lets_its_burst_through(limits: Stage, on_plan: Caller) -> None:
    assert in_parallel(limits, on_plan, 10) == {200: 3, 429: 7}
    answer = ask(limits, on_plan)
    assert answer.code == "rate_limited"
    assert 1 <= int(answer.get("retry-after") or 0) <= 60
    assert_explained(answer, "burst")


@pytest.mark.plan("parallel")
def test_concurrency_limit_frees_its_places(limits: Stage, on_plan: Caller) -> None:
    gates = [scripts.Gate(), scripts.Gate()]
    with connected(limits.port) as first, connected(limits.port) as second:
        for number, (connection, gate) in enumerate(zip((first, second), gates, strict=True)):
            path = f"/wait/{on_plan.account}-{number}"
            limits.recorder.scripts[path] = gate
            connection.send(head("GET", path, on_plan.bearer))
            assert gate.reached.wait(10)
        answer = ask(limits, on_plan)
        assert (answer.status, answer.code) == (429, "concurrency_limited")
        assert refused_row(answer)["name"] == "parallel"
        gates[0].open()
        assert first.answer().status == 200
        assert ask(limits, on_plan).status == 200
        second.abort()
    limits.gateway.settled_usage(on_plan)
    gates[1].open()
    assert in_parallel(limits, on_plan, 1) == {200: 1}


@pytest.mark.plan("several")
def test_refusal_names_every_limit_and_counts_none(limits: Stage, on_plan: Caller) -> None:
    assert [ask(limits, on_plan).status for _ in range(4)] == [200, 200, 429, 429]
    answer = ask(limits, on_plan)
    names = {row["name"]: row["used"] for row in answer.json()["limits"]}
    assert names == {"roomy-hour": 2, "tight-day": 2, "parallel": 0, "coins": 2}
    assert_explained(answer, "tight-day")
    assert limits.used(on_plan) == 2


@pytest.mark.plan("several")
def test_success_carries_every_limit_and_the_budget(limits: Stage, on_plan: Caller) -> None:
    answer = ask(limits, on_plan)
    fields = answer.get("ratelimit") or ""
    policy = answer.get("ratelimit-policy") or ""
    for name, quota, left in (("roomy-hour", 1000, 999), ("tight-day", 2, 1), ("coins", 4, 3)):
        assert re.search(rf'"{name}";q={quota};w=\d+', policy), policy
        assert re.search(rf'"{name}";r={left};t=\d+', fields), fields
    assert answer.get("x-budget-remaining") == "coins=3"


def test_route_limit_counts_its_route_only(limits: Stage) -> None:
    who = limits.newcomer()
    assert [ask(limits, who, "/named").status for _ in range(3)] == [200, 200, 429]
    assert ask(limits, who).status == 200
    assert_explained(ask(limits, who, "/named"), "on-route")


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (head("GET", "/one"), 401, "unauthorized"),
        (head("GET", "/one", "Authorization: Bearer nonsense"), 401, "key_invalid"),
        (head("GET", "/one", "Authorization: Bearer"), 401, None),
        (head("GET", "/one", caller("nobody").bearer), 401, "key_invalid"),
        (head("GET", "/one", EXPIRED.bearer), 401, "key_expired"),
        (head("GET", "/one", FENCED.bearer), 403, "forbidden_network"),
        (head("GET", "/one", BOUND.bearer), 403, "forbidden_route"),
        (head("GET", "/one", DISABLED.bearer), 403, "account_disabled"),
    ],
)
def test_refusals_of_the_key(limits: Stage, data: bytes, status: int, code: str | None) -> None:
    before = len(limits.recorder.requests)
    answer = limits.ask(data)
    assert answer.status == status, answer
    assert code is None or answer.code == code
    assert answer.get("content-type") == "application/problem+json"
    assert (answer.get("www-authenticate") or "").startswith("Bearer") == (status == 401)
    assert "limits" not in answer.json()
    assert [r for r in limits.recorder.requests[before:] if r.target == "/one"] == []


def test_bound_key_may_call_its_route(limits: Stage) -> None:
    assert ask(limits, BOUND, "/named").status in (200, 429)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "route_not_found"),
        ("GET", "/One", 404, "route_not_found"),
        ("DELETE", "/one", 405, "method_not_allowed"),
    ],
)
def test_refusals_of_the_route(
    limits: Stage, method: str, path: str, status: int, code: str
) -> None:
    who = limits.newcomer()
    answer = ask(limits, who, path, method)
    assert (answer.status, answer.code) == (status, code)
    if status == 405:
        assert {m.strip() for m in (answer.get("allow") or "").split(",")} >= {"GET", "POST"}
    assert limits.recorded(who) == []


def test_unknown_route_without_a_key_is_401(limits: Stage) -> None:
    """Who has no key learns nothing of the routes."""
    assert limits.ask(head("GET", "/nothing")).status == 401


@pytest.mark.parametrize(
    ("line", "body"),
    [
        ("Content-Length: 2000", b"a" * 2000),
        ("Transfer-Encoding: chunked", b"7d0\r\n" + b"a" * 2000 + b"\r\n0\r\n\r\n"),
    ],
)
def test_body_over_its_limit_is_413(limits: Stage, line: str, body: bytes) -> None:
    who = limits.newcomer()
    answer = limits.ask(head("POST", "/small", who.bearer, line) + body, "POST")
    assert (answer.status, answer.code) == (413, "body_too_large")
    assert [r for r in limits.recorded(who) if r.complete] == []
    assert limits.used(who) == 0


def test_body_at_its_limit_passes(limits: Stage) -> None:
    who = limits.newcomer()
    data = head("POST", "/small", who.bearer, "Content-Length: 1000") + b"a" * 1000
    assert limits.ask(data, "POST").status == 200


def test_bad_keys_of_one_address_are_slowed(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Also a good key is refused from there, before anything is looked up."""
    directory = tmp_path_factory.mktemp("failures")
    routes = [route("GET /one", {"coins": 1})]
    with stage(directory, routes, accounts=2, identify={"failures_per_minute": 5}) as running:
        who = running.newcomer()
        bad = head("GET", "/one", "Authorization: Bearer wrong", "Connection: close")

        def guess(_: int) -> Answer:
            with connected(running.port, "127.0.0.7") as connection:
                connection.send(bad)
                return connection.answer()

        codes = Counter(guess(n).code for n in range(12))
        # A minute may turn once inside the run, and starts the count anew.
        assert set(codes) == {"key_invalid", "auth_rate_limited"}
        assert codes["key_invalid"] in (5, 10)
        assert running.ask(head("GET", "/one", who.bearer)).status == 200


def test_usage_is_never_charged(limits: Stage) -> None:
    who = limits.newcomer()
    ask(limits, who)
    for _ in range(5):
        assert limits.gateway.usage(who)["used"] == 1
    answer = limits.gateway.get("/v1/usage", who)
    document = answer.json()
    assert (document["account"], document["plan"]) == (who.account, "roomy")
    assert document["meters"]["coins"]["operations"][0]["amount"] == 1
    assert limits.recorded(who)[-1].target == "/one"
    assert limits.gateway.get("/v1/usage").status == 401
