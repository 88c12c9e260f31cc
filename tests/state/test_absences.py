"""Groups of the shared state that go away and come back: each is said once."""

from __future__ import annotations

from typing import Any

from gateway.fleet.absences import Absences
from gateway.state.shared.groups import Group
from gateway.state.shared.link import Link, Reply, StateUnavailable


class _Server:
    """Is never called here. A link.Server."""

    async def run(self, *_: object) -> Reply:
        raise StateUnavailable("not called")


async def _epoch(found: str) -> str:
    return found


class _Watched:
    """Groups whose links fail and answer as a test says, with a clock of its own."""

    def __init__(self, *tags: str) -> None:
        self.links = {tag: Link(_Server(), tag, "w", _epoch, 1) for tag in tags}
        self.now_s = 100.0
        self.said: list[dict[str, Any]] = []
        groups = [Group(tag, link) for tag, link in self.links.items()]
        self.absences = Absences(groups, "allow", self._log, lambda: self.now_s)

    def _log(self, event: str, *, level: str = "info", **facts: Any) -> None:
        self.said.append({"event": event, "level": level, **facts})

    def look(self, **failures: str) -> list[dict[str, Any]]:
        """What is said now that these have failed, a second after the look before."""
        for tag, failure in failures.items():
            self.links[tag].failure = failure
        self.now_s += 1.0
        self.said.clear()
        self.absences.look()
        return list(self.said)


def _away(tag: str, error: str) -> dict[str, Any]:
    facts = {"tag": tag, "error": error, "when_away": "allow"}
    return {"event": "state_away", "level": "warning", **facts}


def _back(tag: str, seconds: float) -> dict[str, Any]:
    return {"event": "state_back", "level": "info", "tag": tag, "seconds": seconds}


async def test_an_absence_is_said_once_and_its_end_once() -> None:
    watched = _Watched("g0")
    assert watched.look() == []
    assert watched.look(g0="refused") == [_away("g0", "refused")]
    assert watched.look(g0="no answer") == []  # for another reason, and still away
    assert watched.look(g0="") == [_back("g0", 2.0)]
    assert watched.look() == []
    assert watched.look(g0="again") == [_away("g0", "again")]


async def test_each_group_is_away_by_itself() -> None:
    watched = _Watched("g0", "g1")
    assert watched.look(g1="refused") == [_away("g1", "refused")]
    assert watched.look(g0="refused") == [_away("g0", "refused")]
    assert watched.look(g1="") == [_back("g1", 2.0)]
    assert watched.look(g0="") == [_back("g0", 2.0)]
