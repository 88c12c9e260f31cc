"""Testomat.io: which requests are billable, and how many results an upload has."""

from __future__ import annotations

import gzip
from typing import Any

import pytest

from tests.acceptance.shop import Customer, Shop
from tests.acceptance.testomat_calls import upload
from tests.acceptance.testomat_tables import METHODS, V1, V2, example, rows

acceptance = pytest.mark.acceptance


@acceptance("TESTOMAT-10")
@pytest.mark.parametrize(
    ("body", "results"),
    [
        ({"title": "a", "status": "failed"}, 1),
        ([{"status": "passed"}, {"status": "failed"}, {"status": "skipped"}], 3),
        ({"tests": [{"status": "skipped"}] * 7, "batch": 1}, 7),
        ([], 0),
        (b"<testsuites><testsuite><testcase/><testcase><failure/></testcase></testsuite>"
         b"<testsuite><testcase><skipped/></testcase></testsuite></testsuites>", 3),
    ],
)  # fmt: skip
def test_each_result_of_an_upload_is_a_report(testomat: Shop, body: Any, results: int) -> None:
    who = testomat.customer(plan="professional")
    paths = ("/api/reporter/run1/testrun", "/api/load", "/api/test_data", "/api/test_grep")
    for number, path in enumerate(paths, 1):
        assert who.post(path, body).status == 201
        assert who.used("reports") == number * results
    assert who.used("requests") == 0


@acceptance("TESTOMAT-10")
def test_compressed_uploads_count_what_is_in_them(testomat: Shop) -> None:
    who = testomat.customer(plan="professional")
    packed = gzip.compress(b"[" + b",".join([b"{}"] * 40) + b"]")
    assert who.post("/api/load", packed, Content_Encoding="gzip").status == 201
    assert who.used("reports") == 40
    broken = who.post("/api/load", packed[:-9], Content_Encoding="gzip")
    assert (broken.status, broken.code) == (400, "unpriceable")
    assert who.used("reports") == 40


@acceptance("TESTOMAT-10", "TESTOMAT-06")
def test_an_upload_that_does_not_fit_is_refused_as_a_whole(testomat: Shop) -> None:
    who = testomat.customer(plan="professional")
    assert upload(who, 4990) == 201
    assert upload(who, 11) == 402
    assert who.used("reports") == 4990
    assert upload(who, 10) == 201


@acceptance("TESTOMAT-11", "TESTOMAT-12")
def test_exactly_the_tables_routes_and_methods_are_billable(testomat: Shop) -> None:
    who = testomat.customer(plan="enterprise")
    expected: dict[tuple[str, str], dict[str, int]] = {}
    for table, price in ((V2, 1), (V1, 2)):
        for template, methods in rows(table).items():
            path = example(template, "shop")
            for method in METHODS:
                expected[method, path] = {"requests": price} if method in methods else {}
    assert len(expected) == (22 + 57) * len(METHODS)  # paths of the two tables
    for method, path in expected:
        answer = who.call(method, path, {} if method != "GET" else None)
        assert answer.status == 201, (method, path, answer.body)
    found = {(e["method"], e["path"]): _charged(e) for e in _all_events(who)}
    assert found == expected
    assert who.used("requests") == sum(sum(c.values()) for c in expected.values())


@acceptance("TESTOMAT-11")
def test_the_cookie_of_the_ui_is_free_on_every_route(testomat: Shop) -> None:
    who = testomat.customer(plan="professional")
    browser = who.browser()
    for template, methods in rows(V1).items():
        for method in methods:
            assert browser.call(method, example(template, "shop")).status == 201
    assert all(not _charged(event) for event in _all_events(who))
    assert who.used("requests") == 0
    # A key beside the cookie is not the UI.
    assert who.post("/api/shop/tests", {}, Cookie=browser.cookie).status == 201
    assert who.used("requests") == 2


@acceptance("TESTOMAT-12")
def test_what_is_not_in_the_tables_costs_nothing(testomat: Shop) -> None:
    who = testomat.customer(plan="professional")
    for method, path in (
        ("GET", "/api/shop/tests"),
        ("HEAD", "/api/shop/tests/7"),
        ("OPTIONS", "/api/v2/shop/tests"),
        ("GET", "/api/v2/shop/runs/7"),
        ("POST", "/api/shop/unheard/of"),
        ("POST", "/api/v2/shop/unheard"),
        ("PATCH", "/api/v2/shop/issues/7"),
        ("POST", "/api/v2/tests/7"),
        ("POST", "/api/shop/tests/7/copy/again"),
        ("POST", "/login"),
        ("GET", "/api/shop/quota"),
    ):
        assert who.call(method, path).status in (200, 201), path
    assert (who.used("requests"), who.used("reports"), who.used("tokens")) == (0, 0, 0)


@acceptance("TESTOMAT-12")
def test_no_detour_in_the_path_makes_a_billable_request_free(testomat: Shop) -> None:
    who = testomat.customer(plan="professional")
    spent = 0
    for path in ("/api/v2/shop/%74ests", "/api/v2/./shop/tests", "/api/v2/shop/x/../tests",
                 "/api/v2/shop/tests?a=/api/v2/shop/reads"):  # fmt: skip
        answer = who.post(path, {})
        spent += answer.status == 201
        assert answer.status in (201, 400, 404), path
        assert who.used("requests") == spent, path


@acceptance("TESTOMAT-12")
def test_ingestion_counts_as_reports_and_not_as_requests(testomat: Shop) -> None:
    who = testomat.customer(plan="professional")
    for path in ("/api/reporter/r1", "/api/load", "/api/test_data", "/api/test_grep"):
        assert who.post(path, [{}, {}]).status == 201
    assert who.post("/api/reporter", {"title": "opens a run"}).status == 201
    assert who.call("PUT", "/api/reporter/r1", {"status": "finish"}).status == 201
    assert (who.used("reports"), who.used("requests")) == (8, 0)


def _charged(event: dict[str, Any]) -> dict[str, int]:
    return {meter: amount for meter, amount in event["charges"].items() if amount}


def _all_events(who: Customer) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    query = {"account": who.account, "limit": "1000"}
    while True:
        page = who.shop.admin.get("/events", **query)
        items += page["items"]
        if page["next"] is None:
            return items
        query["cursor"] = page["next"]
