"""A running gateway removes old events; what callers and operators are told stays the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.store import retention_thread
from tests.api.admin_client import Admin
from tests.api.scene import Scene
from tests.support.configs import Caller
from tests.support.stores import store_entry
from tests.support.until import until

NOW = "2026-07-05T11:22:33Z"
UNTIL = "2026-05-01T00:00:00Z"  # April is the last month that leaves


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(retention_thread, "FIRST_S", 3600.0)
    kept = {"events": "2 months", "archive": {"dir": str(tmp_path / "archive")}}
    store = store_entry(tmp_path / "data").get("store", {})
    scene = Scene(tmp_path, store={**store, "retention": kept})
    yield scene
    scene.stop()


def told(scene: Scene, who: Caller) -> list[Any]:
    """Everything that is made from sums."""
    name = who.account
    spans = ({"from": "2026-03-10T09:25:00Z", "to": "2026-05-03T00:00:00Z"}, {"by": "user"})
    return [
        scene.read(who)["meters"],
        *(scene.read(who, "/history", meter=meter) for meter in ("coins", "credits")),
        *(scene.read(who, "/invoice", month=f"2026-0{n}") for n in range(3, 8)),
        *(scene.admin.get(f"/usage/{name}/overage", month=f"2026-0{n}") for n in range(3, 8)),
        *(scene.read(who, "/breakdown", meter="credits", **span) for span in spans),
        scene.admin.get("/ledger", account=name),
        scene.admin.get("/audit")["differences"],
    ]


def test_a_gateway_removes_old_events_and_nothing_else_changes(
    old: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paid, tried = old.caller("paid", timezone="Asia/Kolkata"), old.caller("try")
    old.admin.make("/bundles", account=paid.account, bundle="starter")
    for days in (0, 1, 6.02, 15, 3, 7.04, 29, 29, 25):
        old.clock.go_on(days=days)
        for who in (paid, tried):
            old.call(who, "/coin")
            old.call(who, "/credit", 3)
        if days == 6.02:  # in the middle of an hour: a trial ends
            old.clock.go_on(seconds=61)
            changed = {"plan": "paid", "seats": 3}
            assert old.admin.ask("PATCH", f"/accounts/{tried.account}", changed).status == 200
            old.clock.go_on(seconds=61)
    first = old.admin.get("/events", account=paid.account, limit="1000")["items"][-1]
    old.clock.go_to(NOW)
    before = [told(old, who) for who in (paid, tried)]
    listed = old.read(paid, "/activity", limit="1000")
    assert listed["removed_until"] is None
    monkeypatch.setattr(retention_thread, "FIRST_S", 0.01)
    old.clocked.stop()
    old.clocked.start()
    old.admin = Admin(old.clocked.data_dir)
    facts = old.clocked.notes.lines
    until(
        lambda: [figures["month"] for _, fact, figures in facts if fact == "month_removed"],
        lambda months: months == ["2026-03", "2026-04"],
    )
    assert [told(old, who) for who in (paid, tried)] == before
    left = old.read(paid, "/activity", limit="1000")
    assert left["removed_until"] == UNTIL
    assert left["items"] == [item for item in listed["items"] if item["time"] >= UNTIL]
    assert 0 < len(left["items"]) < len(listed["items"])
    assert old.admin.get("/events")["removed_until"] == UNTIL
    is_refused(old, paid, first)
    names = {file.name for file in (tmp_path / "archive").iterdir()}
    assert names >= {"events-2026-03.csv.gz", "events-2026-04.csv.gz"}


def is_refused(scene: Scene, who: Caller, first: dict[str, Any]) -> None:
    """What single events are needed for says why it cannot be had."""
    status, _, body = scene.ask(who, "/own/file.csv", **{"from": "2026-04-20", "to": "2026-05-20"})
    assert status == 400 and f"expected {UNTIL} or later" in json.loads(body)["detail"]
    assert len(scene.rows(who, **{"from": "2026-05-01", "to": "2026-06-30"})) > 1
    reply = scene.admin.ask("POST", "/refunds", {"account": who.account, "event": first["id"]})
    assert reply.status == 404
    assert f"events before {UNTIL} were removed" in reply.document["detail"]
