"""Terms, units and statements of an account: the same by a running gateway and without one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.api.endpoints import ENDPOINTS, PREFIX
from gateway.cli.main import main
from tests.cli.conftest import Run, run
from tests.support.configs import Config, config, route, write
from tests.support.gateway import Gateway
from tests.support.recorder import Recorder

COINS = {"amount": 5, "per": "month", "settable": True, "overage": {"price": 0.10}}
OWN = {"settable": {"from": 1, "to": 100}, "default": 0, "window": "hour"}


def configuration(backend_port: int = 9) -> Config:
    return config(
        backend_port,
        routes=[route("GET /one", {"coins": 1}, name="one", operation="One")],
        plans={
            "paid": {
                "price": 20,
                "allowances": {"coins": COINS},
                "limits": {"own": OWN},
                "bundles": {
                    "starter": {"title": "Starter", "meter": "coins", "amount": 10, "price": 5}
                },
            }
        },
        settings={"ai": {"values": ["on", "off"], "editors": ["owner"]}},
        roles=["owner", "member"],
        default_plan="paid",
    )


@pytest.fixture(scope="module", params=["live", "offline"])
def tallygate(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Run]:
    directory = tmp_path_factory.mktemp("terms")
    if request.param == "offline":
        path = directory / "gateway.yaml"
        write(configuration(), path, port=0, admin_port=0, data_dir=directory / "data")
        yield lambda *arguments: run(path, *arguments)
        return
    recorder = Recorder()
    gateway = Gateway(configuration(recorder.port), directory).start()
    yield lambda *arguments: run(gateway.file, *arguments)
    gateway.stop()
    recorder.stop()


def made(tallygate: Run, *arguments: str) -> Any:
    """The document of a command that must succeed."""
    ran = tallygate(*arguments, "--json")
    assert ran.code == 0, ran
    return ran.json


def test_terms_of_an_account(tallygate: Run) -> None:
    created = made(
        tallygate, "accounts", "create", "terms", "--seats", "3", "--cap", "12.5",
        "--overage", "on", "--timezone", "Europe/Kyiv", "--setting", "ai=off",
        "--allowance", "coins=9", "--limit", "own=7",
    )  # fmt: skip
    assert (created["seats"], created["cap"], created["overage"]) == (3, "12.50", True)
    assert (created["settings"], created["timezone"]) == ({"ai": "off"}, "Europe/Kyiv")
    assert (created["allowances"], created["limits"]) == ({"coins": 9}, {"own": 7})
    changed = made(
        tallygate, "accounts", "update", "terms", "--cap", "none", "--overage", "default",
        "--setting", "ai=", "--allowance", "coins=", "--limit", "own=",
    )  # fmt: skip
    assert (changed["cap"], changed["overage"], changed["settings"]) == (None, None, {"ai": "on"})
    assert (changed["allowances"], changed["limits"]) == ({}, {})
    shown = tallygate("accounts", "show", "terms")
    assert shown.fields["settings"] == "ai=on"
    assert shown.fields["cap"] == "-"
    for wrong in (["--limit", "own=many"], ["--cap", "lots"], ["--allowance", "calls=1"]):
        ran = tallygate("accounts", "update", "terms", *wrong)
        assert (ran.code, len(ran.err.splitlines())) == (1, 1), wrong
    assert tallygate("accounts", "update", "terms", "--setting", "ai").code == 2


def test_members_and_a_change_in_a_members_name(tallygate: Run) -> None:
    made(tallygate, "accounts", "create", "team")
    made(tallygate, "members", "set", "team", "ada/1@example.com", "owner")
    made(tallygate, "members", "set", "team", "bob", "member")
    assert made(tallygate, "members", "list", "team") == [
        {"user": "ada/1@example.com", "role": "owner"},
        {"user": "bob", "role": "member"},
    ]
    refused = tallygate("accounts", "update", "team", "--overage", "on", "--as", "bob")
    assert (refused.code, "may not change overage" in refused.err) == (1, True)
    changed = made(
        tallygate, "accounts", "update", "team", "--overage", "on", "--as", "ada/1@example.com",
        "--as-address", "203.0.113.9",
    )  # fmt: skip
    assert changed["overage"] is True
    (entry,) = made(tallygate, "audit-log", "--subject", "team", "--action", "account.overage_on")
    assert (entry["member"], entry["member_address"]) == ("ada/1@example.com", "203.0.113.9")
    assert entry["actor"].startswith("cli:")
    table = tallygate("audit-log", "--subject", "team").out.splitlines()
    assert table[0].split()[:3] == ["TIME", "ACTOR", "MEMBER"]
    assert "overage=True" in table[1]
    removed = made(tallygate, "members", "remove", "team", "ada/1@example.com")
    assert removed["role"] == "owner"


def test_units(tallygate: Run) -> None:
    made(tallygate, "accounts", "create", "units")
    made(tallygate, "topup", "units", "coins", "2", "--id", "units-1")
    promoted = made(tallygate, "grant", "units", "coins", "3", "--expires", "30d", "--reason", "hi")
    assert promoted["kind"] == "promotion"
    assert made(tallygate, "bundle", "units")[0]["name"] == "starter"
    bought = made(tallygate, "bundle", "units", "starter")
    assert (bought["kind"], bought["price"]) == ("bundle", "5.00")
    taken = made(tallygate, "adjust", "units", "coins", "-4", "--reason", "error")
    assert taken["amount"] == -4
    lot = made(tallygate, "adjust", "units", "coins", "-1", "--reason", "x", "--lot", bought["id"])
    assert lot["lot"] == bought["id"]
    entries = made(tallygate, "ledger", "units")
    assert [e["kind"] for e in entries] == [
        "adjustment", "adjustment", "bundle", "promotion", "topup",
    ]  # fmt: skip
    shown = made(tallygate, "usage", "units")["meters"]["coins"]
    assert (shown["limit"], shown["remaining"]) == (3, 15)
    refused = tallygate("adjust", "units", "coins", "-4", "--reason", "x")
    assert (refused.code, "at most 3" in refused.err) == (1, True)
    refused = tallygate("refund", "units", "nothing")
    assert (refused.code, "has no event" in refused.err) == (1, True)
    assert tallygate("adjust", "units", "coins", "1").code == 2


def test_statements(tallygate: Run) -> None:
    made(tallygate, "accounts", "create", "told")
    made(tallygate, "bundle", "told", "starter")
    (period,) = made(tallygate, "history", "told", "--periods", "1")["items"]
    assert (period["granted"], period["consumed"]) == (15, 0)
    assert made(tallygate, "breakdown", "told", "--by", "user")["items"] == []
    assert made(tallygate, "overage", "told")["items"] == []
    invoice = made(tallygate, "invoice", "told")
    assert invoice["total"] == "25.00"
    assert tallygate("invoice", "told").out.splitlines()[-1] == "total: 25.00 USD"
    assert tallygate("history", "told").out.splitlines()[1].split()[:2] == ["FROM", "TO"]
    for command in ("breakdown", "overage"):
        assert tallygate(command, "told").code == 0
    refused = tallygate("invoice", "told", "--month", "March")
    assert (refused.code, "month: expected" in refused.err) == (1, True)


def test_holds_are_none_where_nothing_is_in_flight(tallygate: Run) -> None:
    assert made(tallygate, "holds") == []
    shown = tallygate("holds")
    assert shown.out.split()[:2] == ["SINCE", "ACCOUNT"]
    assert shown.err == "", "there is no other gateway"


def test_the_openapi_document_needs_no_configuration() -> None:
    done = CliRunner().invoke(main, ["openapi"])
    assert done.exit_code == 0
    paths = json.loads(done.stdout)["paths"]
    assert set(paths) == {PREFIX + endpoint.path for endpoint in ENDPOINTS}
