"""`tallygate check`, `schema` and `routes` as they are called."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.cli.check import check, routes, schema
from tests.config.writing import BASE, Folder

ROUTED = (
    BASE
    + """\
routes:
  - {name: list, match: GET /items, upstream: demo, price: {coins: 1}, limits: {l: 5/s}}
  - {name: v2, match: GET /items, upstream: demo, price: {coins: 2}, headers: {X-V: "2"}}
  - {name: any, match: "* /items/{id}", upstream: demo, price: free, operation: Any,
     project: "{id}", callers: {api_key: {price: {coins: 0.5}}, browser: {}}}
  - {name: hosted, match: GET /items, host: "*.test", upstream: demo, price: free}
  - {name: rest, match: "GET /{path...}", upstream: demo, price: free}
limits: {all: 100/s}
"""
)


def call(command: Any, *arguments: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(command, arguments, env=env)


def explain(folder: Folder, *arguments: str) -> list[str]:
    path = folder.write("c.yaml", ROUTED)
    result = call(routes, "--config", str(path), "--explain", *arguments)
    assert result.exit_code == 0, result.output
    return [line.replace(f"{folder.path}/", "") for line in result.stdout.splitlines()]


def test_check_of_a_right_file(folder: Folder) -> None:
    path = folder.write("c.yaml", ROUTED)
    result = call(check, str(path))
    assert result.exit_code == 0 and result.stderr == ""
    *warnings, summary = result.stdout.splitlines()
    assert f"{path}:8:5: warning: the route 'any' is free for browser" in warnings
    assert summary.startswith(
        f"{path}: ok, 5 routes, 3 free (any, hosted, rest), unmatched: refused (404), version "
    )


def test_check_takes_the_file_as_the_other_commands_do(folder: Folder) -> None:
    path = folder.write("c.yaml", ROUTED)
    assert call(check, "--config", str(path)).stdout == call(check, str(path)).stdout


def test_check_names_what_no_route_names(folder: Folder) -> None:
    path = folder.write(
        "c.yaml", BASE + "unmatched: {action: pass, upstream: demo, price: {coins: 0.5}}\n"
    )
    summary = call(check, str(path)).stdout.splitlines()[-1]
    assert ", 0 routes, 0 free, unmatched: passed to demo (api_key: 0.50 coins), version" in summary


def test_check_of_a_wrong_file(folder: Folder) -> None:
    path = folder.write("c.yaml", "a: 1\nb: 2\n")
    result = call(check, str(path))
    assert result.exit_code == 1 and result.stdout == ""
    assert result.stderr.splitlines() == [
        f"{path}:1:1: expected a known key, found 'a'",
        f"{path}:2:1: expected a known key, found 'b'",
        f"{path}: 2 problems",
    ]


def test_check_as_json(folder: Folder) -> None:
    path = folder.write("c.yaml", ROUTED)
    right = json.loads(call(check, "--json", str(path)).stdout)
    assert right["ok"] and right["routes"] == 5 and right["free"] == ["any", "hosted", "rest"]
    assert right["warnings"][0]["line"] == 8 and len(right["version"]) == 12
    assert right["sources"] == [str(path)]
    result = call(check, "--json", str(folder.write("d.yaml", "a: 1\n")))
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "ok": False,
        "problems": [
            {"file": str(folder.path / "d.yaml"), "line": 1, "column": 1,
             "message": "expected a known key, found 'a'"},
        ],
    }  # fmt: skip


def test_check_uses_the_environment(folder: Folder) -> None:
    path = folder.write("c.yaml", "server:\n  max_headers: ${TG_N}\n")
    assert call(check, str(path)).exit_code == 1
    assert call(check, str(path), env={"TG_N": "5"}).exit_code == 0


def test_schema_is_json() -> None:
    assert json.loads(call(schema).stdout)["title"] == "tallygate configuration"


def test_the_table_of_routes(folder: Folder) -> None:
    path = folder.write("c.yaml", ROUTED)
    lines = call(routes, "--config", str(path)).stdout.splitlines()
    assert lines[0].split() == ["NAME", "METHODS", "PATH", "UPSTREAM", "PRICE"]
    assert lines[1].split() == ["list", "GET", "/items", "demo", "api_key:", "1.00", "coins"]
    assert lines[3].endswith("api_key: 0.50 coins, browser: free")
    assert lines[4].split()[2] == "*.test/items"
    rows = json.loads(call(routes, "--config", str(path), "--json").stdout)
    assert [row["name"] for row in rows] == ["list", "v2", "any", "hosted", "rest"]


def test_explain_a_match(folder: Folder) -> None:
    assert explain(folder, "GET", "/items?a=%20") == [
        "GET /items?a=%20 -> route 'list' (c.yaml:6:5)",
        "  because:    exact path /items, method GET",
        "  operation:  list",
        "  price:      api_key: 1.00 coins",
        "  limits:     all/all, route/list/l, and those of the account's plan",
        "  upstream:   http://127.0.0.1:9000/items?a=%20",
        "  not 'hosted' (exact: GET /items): host (none) is not *.test",
        "  not 'v2' (exact: GET /items): header x-v is missing",
        "  not 'rest' (rest: GET /{path...}): another one is nearer or stands earlier",
    ]


def test_explain_parameters_and_prices(folder: Folder) -> None:
    lines = explain(folder, "DELETE", "/items/a%20b")
    assert lines[:8] == [
        "DELETE /items/a%20b -> route 'any' (c.yaml:8:5)",
        "  because:    template path /items/{id}, method *",
        "  parameters: id=a b",
        "  operation:  Any",
        "  price:      api_key: 0.50 coins, browser: free",
        "  limits:     all/all, and those of the account's plan",
        "  upstream:   http://127.0.0.1:9000/items/a%20b",
        "  project:    a b",
    ]
    assert lines[8:] == ["  not 'rest' (rest: GET /{path...}): method DELETE is not GET"]


def test_explain_hosts_and_headers(folder: Folder) -> None:
    assert "'hosted'" in explain(folder, "GET", "/items", "--host", "A.test:80")[0]
    lines = explain(folder, "GET", "/items", "--header", "x-V: 2")
    assert "'v2'" in lines[0] and lines[1].endswith("method GET, header x-v: 2")
    lines = explain(folder, "GET", "/items", "--header", "X-V:3")
    assert "  not 'v2' (exact: GET /items): header x-v is '3', not '2'" in lines
    assert "'list'" in explain(folder, "HEAD", "/items")[0]


def test_explain_refusals(folder: Folder) -> None:
    assert explain(folder, "POST", "/items")[0] == (
        "POST /items -> refused (405 method_not_allowed; allowed: GET)"
    )
    assert explain(folder, "GET", "/v1/usage") == [
        "GET /v1/usage -> the gateway's own usage summary, never charged"
    ]
    path = folder.write("d.yaml", BASE)
    result = call(routes, "--config", str(path), "--explain", "GET", "/x")
    assert result.stdout.splitlines() == [
        "GET /x -> refused (404 route_not_found)",
        "  no route has this path",
    ]


def test_explain_what_no_route_names(folder: Folder) -> None:
    path = folder.write("c.yaml", BASE + "unmatched: {action: pass, upstream: demo, price: free}\n")
    result = call(routes, "--config", str(path), "--explain", "GET", "/x")
    lines = result.stdout.splitlines()
    assert lines[1] == "  because:    no route matches, and unmatched has action: pass"
    assert "  operation:  Other" in lines and "  price:      api_key: free" in lines


def test_explain_as_json(folder: Folder) -> None:
    path = folder.write("c.yaml", ROUTED)
    result = call(routes, "--config", str(path), "--json", "--explain", "PUT", "/items/5")
    found = json.loads(result.stdout)
    assert found["route"]["name"] == "any" and found["parameters"] == {"id": "5"}
    assert found["upstream_url"] == "http://127.0.0.1:9000/items/5"
    assert found["not"] == [{"route": "rest", "kind": "rest", "failed": ["method PUT is not GET"]}]


@pytest.mark.parametrize("target", ["/a//b", "/a/../b", "x", "/a%2fb"])
def test_explain_a_bad_target(folder: Folder, target: str) -> None:
    path = folder.write("c.yaml", ROUTED)
    result = call(routes, "--config", str(path), "--explain", "GET", target)
    assert result.exit_code == 1 and "refused (400)" in result.stderr


def test_routes_of_a_wrong_file(folder: Folder) -> None:
    path = folder.write("c.yaml", "a: 1\n")
    result = call(routes, "--config", str(path))
    assert result.exit_code == 1 and result.stderr.startswith(f"{path}:1:1: ")


def test_a_header_without_a_colon_is_wrong_usage(folder: Folder) -> None:
    path = folder.write("c.yaml", ROUTED)
    arguments = ("--config", str(path), "--explain", "GET", "/", "--header", "X")
    assert call(routes, *arguments).exit_code == 2
