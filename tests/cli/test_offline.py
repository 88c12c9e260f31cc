"""Operator's commands while no gateway runs: straight on the store, under its lock."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import pytest

from gateway.cli.offline import OfflineOffice
from gateway.cli.options import Failed
from gateway.config import load
from gateway.core.identity import is_well_formed
from gateway.store.lock import DataLock
from gateway.store.sink import SqliteSink
from tests.cli.conftest import DECLARED, Run, run


def test_accounts(offline: Run) -> None:
    made = offline("accounts", "create", "acme", "--title", "Acme Ltd", "--plan", "large")
    assert (made.code, made.err) == (0, "")
    assert made.fields["title"] == "Acme Ltd"
    changed = offline("accounts", "update", "acme", "--plan", "small", "--disable", "--json")
    assert (changed.json["plan"], changed.json["disabled"]) == ("small", True)
    listed = offline("accounts", "list", "--json").json
    assert {item["id"]: item["declared"] for item in listed}["acme"] is False
    table = offline("accounts", "list").out.splitlines()
    head = "ID TITLE PLAN SEATS OVERAGE DISABLED CYCLE START DECLARED"
    assert table[0].split() == head.split()
    assert (
        len({line.index(plan) for line, plan in zip(table[1:3], ("small", "small"), strict=True)})
        == 1
    )


def test_life_of_a_key(offline: Run) -> None:
    made = offline("keys", "create", DECLARED.account, "--name", "ci", "--expires", "30d",
                   "--route", "one", "--network", "10.0.0.0/8,192.168.0.0/16")  # fmt: skip
    assert made.code == 0
    assert is_well_formed(made.fields["key"])
    assert made.fields["networks"] == "10.0.0.0/8,192.168.0.0/16"
    assert "store it now" in made.err
    key_id = made.fields["id"]
    rotated = offline("keys", "rotate", key_id, "--overlap", "1h", "--json").json
    assert rotated["replaces"]["id"] == key_id
    assert (rotated["name"], rotated["routes"]) == ("ci", ["one"])
    revoked = offline("keys", "revoke", key_id)
    assert revoked.fields["state"] == "revoked"
    listed = {k["id"]: k for k in offline("keys", "list", "--json").json}
    assert listed[key_id]["state"] == "revoked"
    assert listed[rotated["id"]]["state"] == "active"
    assert listed[f"key-{DECLARED.account}"]["declared"]
    assert made.fields["key"] not in offline("keys", "list").out


def test_topup_and_usage(offline: Run) -> None:
    for _ in range(2):
        made = offline("topup", DECLARED.account, "coins", "3", "--id", "order-1", "--json")
        assert (made.code, made.json["amount"]) == (0, 3)
    assert offline("topup", DECLARED.account, "coins", "-1").code == 0
    shown = offline("usage", DECLARED.account)
    assert f"account {DECLARED.account}, plan small" in shown.out
    coins = offline("usage", DECLARED.account, "--json").json["meters"]["coins"]
    assert (coins["limit"], coins["remaining"], coins["topped_up"]) == (7, 7, 2)


def test_audit_and_events_of_an_empty_store(offline: Run) -> None:
    audited = offline("audit")
    assert (audited.code, audited.out[:6]) == (0, "clean:")
    assert offline("audit", "--json").json["differences"] == []
    assert len(offline("events").out.splitlines()) == 1
    assert offline("events", "--json").out == ""


@pytest.mark.parametrize(
    "arguments", [["usage", "acme"], ["audit"], ["events"], ["keys", "list"], ["ledger", "acme"]]
)
def test_a_question_where_no_gateway_has_been_makes_nothing(
    file: Path, arguments: list[str]
) -> None:
    ran = run(file, *arguments)
    assert (ran.code, ran.out) == (1, "")
    assert str(file.parent / "data") in ran.err
    assert not (file.parent / "data").exists()


def test_audit_ends_with_1_when_figures_differ(offline: Run, tmp_path: Path) -> None:
    assert offline("accounts", "list").code == 0
    with sqlite3.connect(tmp_path / "data" / "tallygate.db") as store:
        store.execute("INSERT INTO balances VALUES ('acme', 'coins', 0, '', 7)")
    store.close()
    audited = offline("audit")
    assert audited.code == 1
    assert "not clean: 1 differences" in audited.out
    assert audited.out.splitlines()[1].split() == ["TABLE", "ROW", "EXPECTED", "FOUND"]


def test_what_could_not_be_written_is_not_taken_back(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = OfflineOffice(load(file, {}).book, "ada")
    body = {"account": DECLARED.account, "meter": "coins", "amount": 5, "reason": "x"}
    try:
        lot = office.call("POST", "/grants", body={**body})["id"]
        with monkeypatch.context() as broken:
            broken.setattr(SqliteSink, "run", _fail)
            for more in ({}, {"lot": lot}):
                with pytest.raises(Failed, match="the disk is gone"):
                    office.call("POST", "/adjustments", body={**body, "amount": -4, **more})
        shown = office.call("GET", f"/usage/{DECLARED.account}")["meters"]["coins"]
        assert (shown["remaining"], shown["limit"], shown["lots"][0]["left"]) == (10, 5, 5)
        for more in ({}, {"lot": lot}):
            office.call("POST", "/adjustments", body={**body, "amount": -5, **more})
        shown = office.call("GET", f"/usage/{DECLARED.account}")["meters"]["coins"]
        assert shown["remaining"] == 0
    finally:
        office.close()


def _fail(self: SqliteSink, change: object) -> None:
    raise sqlite3.OperationalError("the disk is gone")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["accounts", "create", DECLARED.account], "there is an account"),
        (["accounts", "update", DECLARED.account, "--disable"], "declared in the configuration"),
        (["accounts", "create", "a b"], "id: expected a name"),
        (["keys", "create", "nobody"], "there is no account 'nobody'"),
        (["keys", "create", DECLARED.account, "--route", "on"], "did you mean one?"),
        (["keys", "revoke", "key_0"], "there is no key 'key_0'"),
        (["keys", "revoke", f"key-{DECLARED.account}"], "declared in the configuration"),
        (["keys", "rotate", "a/b"], "there is no key 'a/b'"),
        (["topup", DECLARED.account, "coins", "x"], "amount: expected a decimal number"),
        (["topup", DECLARED.account, "credits", "1"], "there is nothing to top up"),
        (["usage", "nobody"], "there is no account 'nobody'"),
        (["events", "--from", "monday"], "from: expected"),
        (["events", "--follow"], "no gateway runs on this data directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_refusals_are_one_line_and_exit_1(offline: Run, arguments: list[str], message: str) -> None:
    ran = offline(*arguments)
    assert ran.code == 1
    assert ran.err.startswith("tallygate: ")
    assert message in ran.err
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["accounts", "create"],
        ["accounts", "update", "acme"],
        ["keys", "create", "acme", "--environment", "prod"],
        ["keys", "explode"],
        ["events", "--limit", "0"],
        ["events", "--limit", "many"],
        ["usage"],
        ["topup", "acme", "coins", "1", "--reson", "x"],
        ["explode"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_2(offline: Run, arguments: list[str]) -> None:
    assert offline(*arguments).code == 2


def test_audit_log_has_the_user_and_no_address(offline: Run, tmp_path: Path) -> None:
    offline("accounts", "create", "acme")
    with sqlite3.connect(tmp_path / "data" / "tallygate.db") as store:
        rows = store.execute("SELECT actor, action, subject, detail FROM audit_log").fetchall()
    store.close()
    ((actor, action, subject, detail),) = rows
    assert (actor[:4], action, subject) == ("cli:", "account.create", "acme")
    assert json.loads(detail)["address"] == "local"


def test_every_mistake_of_the_configuration_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("metres: {}\nroutes: 5\n")
    ran = run(file, "keys", "list")
    assert ran.code == 1
    assert "the configuration cannot be used" in ran.err
    assert "did you mean meters?" in ran.err


def test_a_lock_without_an_answer_is_said(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.cli.office.WAIT_S", 0.3)
    control = {"url": "http://127.0.0.1:9", "token": "x" * 43}
    with DataLock(tmp_path / "data"):
        (tmp_path / "data" / "control.json").write_text(json.dumps(control))
        ran = run(file, "keys", "list")
    assert ran.code == 1
    assert f"in use by process {os.getpid()}" in ran.err


def test_a_stale_control_file_means_nothing(file: Path, tmp_path: Path) -> None:
    """As a killed gateway leaves it: the lock is free, so the store is."""
    (tmp_path / "data").mkdir()
    control = {"url": "http://127.0.0.1:9", "token": "x" * 43}
    (tmp_path / "data" / "control.json").write_text(json.dumps(control))
    assert run(file, "accounts", "create", "acme").code == 0


def test_a_damaged_control_file_is_said(file: Path, tmp_path: Path) -> None:
    with DataLock(tmp_path / "data"):
        (tmp_path / "data" / "control.json").write_text('{"url": 1}')
        ran = run(file, "keys", "list")
    assert (ran.code, len(ran.err.splitlines())) == (1, 1)
