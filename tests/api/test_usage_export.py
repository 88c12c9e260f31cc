"""The CSV export over HTTP, and what all of the usage API refuses."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest

from tests.api.scene import Scene
from tests.support.raw import RawConnection, connected, exchange, head

RANGE = {"from": "2026-03-01", "to": "2026-04-01"}
BACKWARDS = {"from": "2026-03-02", "to": "2026-03-01"}


def test_export_has_every_event_of_the_range_oldest_first(scene: Scene) -> None:
    who, other = scene.caller("weekly"), scene.caller("weekly")
    for n in range(1, 1203):
        scene.clock.go_on(us=1)
        scene.call(who, "/coin" if n % 2 else "/free")
    scene.call(other, "/coin")
    rows = scene.rows(who, **RANGE)
    assert rows[0] == [
        "timestamp", "user", "event type", "source", "service", "operation", "coin cost",
    ]  # fmt: skip
    assert len(rows) == 1203
    assert [row[0] for row in rows[1:]] == sorted(row[0] for row in rows[1:])
    assert sum(int(row[6]) for row in rows[1:]) == 601
    assert rows[1] == [
        "2026-03-02T09:00:00.000001Z", "ada", "charged", "127.0.0.1", "main", "Coin", "1",
    ]  # fmt: skip
    assert len(scene.rows(who, **RANGE, operation="Free")) == 602
    assert scene.rows(who, **{"from": "2026-03-03", "to": "2026-03-04"}) == rows[:1]
    kyiv = scene.rows(who, **RANGE, timezone="Europe/Kyiv")
    assert kyiv[1][0] == "2026-03-02T11:00:00.000001+02:00"


def test_export_keeps_the_connection_and_head_has_no_body(scene: Scene) -> None:
    who = scene.caller("weekly")
    scene.call(who, "/coin", 2)
    target = f"/own/file.csv?{urlencode(RANGE)}"
    with connected(scene.clocked.port) as connection:
        for method in ("GET", "HEAD", "GET"):
            connection.send(head(method, target, who.bearer))
            answer = connection.answer(method)
            assert answer.status == 200
            assert answer.get("transfer-encoding") == "chunked"
            assert answer.get("content-disposition") == 'attachment; filename="activity.csv"'
            assert answer.get("x-request-id")
            assert answer.body.count(b"\r\n") == (3 if method == "GET" else 0)


def test_export_for_http_1_0_ends_with_the_connection(scene: Scene) -> None:
    who = scene.caller("weekly")
    scene.call(who, "/coin")
    target = f"/own/file.csv?{urlencode(RANGE)}"
    text = f"GET {target} HTTP/1.0\r\nHost: x\r\n{who.bearer}\r\n\r\n".encode()
    answer = exchange(scene.clocked.port, text)
    assert (answer.status, answer.get("transfer-encoding")) == (200, None)
    assert answer.body.count(b"\r\n") == 2


def test_a_client_that_leaves_in_the_middle_harms_nobody(scene: Scene) -> None:
    who = scene.caller("weekly")
    scene.call(who, "/coin", 600)
    target = f"/own/file.csv?{urlencode(RANGE)}"
    for _ in range(10):
        left = RawConnection(scene.clocked.port)
        left.send(head("GET", target, who.bearer))
        left.close()
    assert len(scene.rows(who, **RANGE)) == 601


# -- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "query", "wrong"),
    [
        ("/own/usage/history", {"meter": "gold"}, "meter"),
        ("/own/usage/history", {"periods": "0"}, "periods"),
        ("/own/usage/history", {"periods": "401"}, "periods"),
        ("/own/usage/breakdown", {"by": "colour", "meter": "coins"}, "by"),
        ("/own/usage/breakdown", {}, "meter"),
        (
            "/own/usage/breakdown",
            {"meter": "coins", "from": "2026-03-02", "to": "2026-03-01"},
            "to",
        ),
        ("/own/usage/invoice", {"month": "2026-13"}, "month"),
        ("/own/usage/invoice", {"month": "2026-3"}, "month"),
        ("/own/usage/invoice", {"month": "2026-04"}, "month"),
        ("/own/usage/invoice", {"month": "2026-02"}, "month"),
        ("/own/usage/invoice", {"month": "0001-01"}, "month"),
        ("/own/usage/invoice", {"account": "weekly-1"}, "account"),
        ("/own/file.csv", {}, "from, to"),
        ("/own/file.csv", {"from": "2026-01-01", "to": "2026-04-02"}, "up to 3 months"),
        ("/own/file.csv", {**RANGE, "timezone": "Mars/Olympus"}, "timezone"),
        ("/of/web/quota", {"kind": "x"}, "kind"),
    ],
)
def test_400_says_what_was_expected(
    still: Scene, path: str, query: dict[str, str], wrong: str
) -> None:
    status, headers, body = still.ask(still.caller("weekly"), path, **query)
    assert (status, headers["content-type"]) == (400, "application/problem+json"), body
    assert wrong in json.loads(body)["detail"]


def test_nobody_and_other_methods(scene: Scene) -> None:
    who = scene.caller("weekly")
    names = ("", "/activity", "/history", "/breakdown", "/invoice")
    for path in (*(f"/own/usage{name}" for name in names), "/own/file.csv"):
        assert scene.ask(None, path)[0] == 401, path
        assert scene.ask(who, path, "POST")[0] == 405, path
    assert scene.ask(who, "/v1/usage")[0] == 404
    assert scene.read(who)["meters"]["coins"]["used"] == 0


def test_a_view_has_path_parameters_and_is_never_charged(scene: Scene) -> None:
    who = scene.caller("weekly")
    scene.call(who, "/coin", 2)
    status, headers, body = scene.ask(who, "/of/my%20web/quota")
    assert (status, json.loads(body)["used"]) == (200, 2)
    assert headers["x-slug"] == json.loads(body)["slug"]
    assert "x-request-id" in headers
    assert scene.ask(who, "/of/a%0d%0aSet-Cookie:%20x=1/quota")[1].get("set-cookie") is None
    status, headers, body = scene.ask(who, "/of/web/quota", "HEAD")
    assert (status, body, headers["x-slug"]) == (200, b"", "web")
    assert scene.ask(None, "/of/web/quota")[0] == 401
    assert scene.read(who)["meters"]["coins"]["used"] == 2
