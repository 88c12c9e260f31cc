"""Views: what they become, and every kind of mistake with its place."""

from __future__ import annotations

import pytest

from gateway.core.book import View
from tests.config.pricing import SHOP
from tests.config.writing import Folder

ROUTES = """\
usage_api: {path: /own}
routes:
  - {match: POST /check, upstream: app, price: {coins: 1}, operation: make}
  - {match: POST /run, upstream: app, price: {coins: 1}, name: run,
     outcomes: {polling: {answer.json:s: x}}}
  - {match: "* /api/{id}/quota/x", upstream: app, price: free}
"""  # lines 5 to 10


def test_a_view(folder: Folder) -> None:
    text = """\
views:
  - path: GET /v1/{project}/usage
    parameters: {kind: [coins, uc]}
    body:
      plan: "{plan}"
      used: "{meter.{kind}.used} of {meter.{kind}.limit}"
      counts: ["{requests.make.total}", "{requests.run.polling}", "{requests.run.charged}"]
      own: {a: "{setting.quality}", b: "{project}", c: "{kind}", d: 1, e: null, f: 1.5, g: true}
      text: "braces { stay } and so does {}"
    headers: {X-Plan: "{plan}", X-Month: "{month}"}
"""
    text = text.replace("braces { stay } and so does {}", "a brace { stays")
    (view,) = folder.load(SHOP + ROUTES + text).book.views
    assert view == View(
        "/v1/{project}/usage",
        {
            "plan": "{plan}",
            "used": "{meter.{kind}.used} of {meter.{kind}.limit}",
            "counts": ["{requests.make.total}", "{requests.run.polling}", "{requests.run.charged}"],
            "own": {"a": "{setting.quality}", "b": "{project}", "c": "{kind}", "d": 1, "e": None,
                    "f": 1.5, "g": True},
            "text": "a brace { stays",
        },
        (("X-Plan", "{plan}"), ("X-Month", "{month}")),
        (("kind", ("coins", "uc")),),
        f"{folder.path}/c.yaml:12:5",
    )  # fmt: skip


# What is wrong, a view's keys behind its path (from 12:20, body last), the problems.
CASES: dict[str, tuple[str, list[str]]] = {
    "an unknown name": (
        "body: {a: '{pln}'}",
        ["12:30: expected the name of a figure or parameter, found 'pln' in {pln} "
         "(did you mean plan?)"],
    ),
    "deep inside": (
        "body: {a: [1, {b: 'x {pln} y'}]}",
        ["12:38: expected the name of a figure or parameter, found 'pln' in {pln} "
         "(did you mean plan?)"],
    ),
    "in a header": (
        "headers: {X-A: '{pln}'}, body: {}",
        ["12:35: expected the name of a figure or parameter, found 'pln' in {pln} "
         "(did you mean plan?)"],
    ),
    "an unknown meter": (
        "body: {a: '{meter.coin.used}'}",
        ["12:30: expected the name of a meter, found 'coin' in {meter.coin.used} "
         "(did you mean coins?)"],
    ),
    "an unknown figure of a meter": (
        "body: {a: '{meter.coins.usd}'}",
        ["12:30: expected a figure of a meter, found 'usd' in {meter.coins.usd} "
         "(did you mean used?)"],
    ),
    "a parameter that names an unknown meter": (
        "parameters: {k: [coins, uk]}, body: {a: '{meter.{k}.used}'}",
        ["12:60: expected the name of a meter, found 'uk' in {meter.{k}.used} "
         "(known: coins, gb, steps, uc)"],
    ),
    "an unknown parameter inside": (
        "parameters: {kind: [coins]}, body: {a: '{meter.{knd}.used}'}",
        ["12:59: expected a parameter of the view in inner braces, found 'knd' in "
         "{meter.{knd}.used} (did you mean kind?)"],
    ),
    "an unknown setting": (
        "body: {a: '{setting.qualty}'}",
        ["12:30: expected the name of a setting, found 'qualty' in {setting.qualty} "
         "(did you mean quality?)"],
    ),
    "an unknown operation": (
        "body: {a: '{requests.mak.total}'}",
        ["12:30: expected the operation of a route, found 'mak' in {requests.mak.total} "
         "(did you mean make?)"],
    ),
    "an unknown outcome": (
        "body: {a: '{requests.run.poling}'}",
        ["12:30: expected an outcome, found 'poling' in {requests.run.poling} "
         "(did you mean polling?)"],
    ),
    "an unknown kind of figure": (
        "body: {a: '{foo.bar}'}",
        ["12:30: expected a figure, found 'foo' in {foo.bar} (known: meter, requests, setting)"],
    ),
    "a body that is text": (
        "body: hello",
        ["12:26: expected a mapping or list, sent as JSON, found 'hello'"],
    ),
    "a header twice": (
        "headers: {X-A: a, x-a: b}, body: {}",
        ["12:43: expected each header once, found 'b' (first at c.yaml:12:35)"],
    ),
    "parameters without values": (
        "parameters: {k: [], j: [a, a]}, body: {}",
        ["12:36: expected different values, the default first, found an empty list",
         "12:43: expected different values, the default first, found a list"],
    ),
    "a parameter of a name that has a meaning": (
        "parameters: {plan: [a]}, body: {}",
        ["12:33: expected another name, found 'plan' ({plan} has a meaning)"],
    ),
    "an unknown key": (
        "header: {}, body: {}",
        ["12:20: expected a known key of views[0], found 'header' (did you mean headers?)"],
    ),
}  # fmt: skip

# What is wrong, the path (at 12:12), the problem.
PATHS = {
    "another method": ("POST /u", "`GET /path`, such as GET /v1/usage or GET /api/{project}/quota"),
    "no method": ("/u", "`GET /path`, such as GET /v1/usage or GET /api/{project}/quota"),
    "a query": ("GET /u?x", "`GET /path`, such as GET /v1/usage or GET /api/{project}/quota"),
    "a rest": ("GET /u/{rest...}", "a path without {rest...}"),
    "no template": ("GET /u/{a}{b}", "GET and a path template"),
    "the usage API's": ("GET /own", "a path that is not the usage API's"),
    "its list of events": ("GET /own/activity", "a path that is not the usage API's"),
    "its export": ("GET /own/export", "a path that is not the usage API's"),
    "its history": ("GET /own/history/", "a path that is not the usage API's"),
}


@pytest.mark.parametrize(("keys", "expected"), CASES.values(), ids=CASES.keys())
def test_mistakes(folder: Folder, keys: str, expected: list[str]) -> None:
    text = SHOP + ROUTES + f"views:\n  - {{path: GET /u, {keys}}}\n"
    assert folder.problems(text) == [f"c.yaml:{line}" for line in expected]


@pytest.mark.parametrize(("path", "expected"), PATHS.values(), ids=PATHS.keys())
def test_mistakes_of_paths(folder: Folder, path: str, expected: str) -> None:
    text = SHOP + ROUTES + f"views:\n  - path: '{path}'\n    body: {{}}\n"
    (problem,) = folder.problems(text)
    assert problem.startswith(f"c.yaml:12:11: expected {expected}, found '{path}'")


def test_a_path_is_answered_once(folder: Folder) -> None:
    views = "views:\n  - {path: 'GET /u/{a}', body: {}}\n  - {path: 'GET /u/{b}', body: {}}\n"
    assert folder.problems(SHOP + ROUTES + views) == [
        "c.yaml:13:12: expected each view once, found 'GET /u/{b}' (first at c.yaml:12:12)"
    ]
    views = "views: [{path: 'GET /api/{slug}/quota/x', body: {}}]\n"
    assert folder.problems(SHOP + ROUTES + views) == [
        "c.yaml:10:13: expected a path that no view answers, found '* /api/{id}/quota/x' "
        "(move one of them: the view's `path:`)"
    ]
    routes = ROUTES.replace('"* /api', '"POST /api')
    assert len(folder.load(SHOP + routes + views).book.views) == 1


def test_operations_are_judged_when_all_routes_are_known(folder: Folder) -> None:
    """A route with a mistake of its own does not make its operation unknown."""
    routes = ROUTES.replace("upstream: app, price: {coins: 1}, operation", "price: [], operation")
    views = "views: [{path: GET /u, body: {a: '{requests.make.total}'}}]\n"
    assert all("operation" not in problem for problem in folder.problems(SHOP + routes + views))


def test_the_usage_api_and_its_statements(folder: Folder) -> None:
    api = folder.load("usage_api: {path: /u, export_path: /e}\n").book.usage_api
    assert api.paths == ("/u", "/u/activity", "/e", "/u/history", "/u/breakdown", "/u/invoice")
    assert folder.problems("usage_api: {path: /u, activity_path: /u/invoice}\n") == [
        "c.yaml:1:12: expected other paths than those of its statements, found a mapping "
        "(/u/history, /u/breakdown, /u/invoice)"
    ]
    (problem,) = folder.problems(SHOP + "routes: [{match: GET /v1/usage/history, upstream: app, "
                                 "price: free}]\n")  # fmt: skip
    assert "expected a path that is not the usage API's" in problem
