"""The servers of a run, its form (`--chaos-long`), and the table that it ends with.

A scene is shared by scenarios for as long as they succeed; one that fails gets the next
one a new scene.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.play import LONG, SHORT, Chaos, Form, Row, table
from tests.chaos.scene import Scene, Servers

_ROWS = pytest.StashKey[list[Row]]()

SCENARIOS = 16  # at most so many share a scene


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ROWS] = []


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    rows = config.stash[_ROWS]
    if rows:
        terminalreporter.section("recovery")
        for line in table(rows):
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    home = Path(tempfile.mkdtemp(prefix="tallygate-chaos-"))
    running = Servers(home)
    yield running
    running.close()
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def form(request: pytest.FixtureRequest) -> Form:
    return LONG if request.config.getoption("--chaos-long") else SHORT


@pytest.fixture
def chaos(request: pytest.FixtureRequest, form: Form) -> Chaos:
    return Chaos(form, request.config.stash[_ROWS])


class Shared:
    """Scenes that scenarios share for as long as they succeed, by what the state does when away."""

    def __init__(self, servers: Servers, homes: pytest.TempPathFactory, form: Form) -> None:
        self._servers = servers
        self._homes = homes
        self._form = form
        self._scenes: dict[str, Scene] = {}

    def take(self, when_away: str) -> Scene:
        if when_away not in self._scenes:
            made = Scene(
                self._servers,
                self._homes.mktemp(when_away),
                casts=SCENARIOS * self._form.rounds,
                scale=self._form.scale,
                state={"when_away": when_away},
            )
            self._scenes[when_away] = made
            made.start()
        return self._scenes[when_away]

    def spoil(self, when_away: str) -> None:
        self._scenes.pop(when_away).close()

    def end(self) -> None:
        try:
            for scene in self._scenes.values():
                scene.stop()
        finally:
            for scene in self._scenes.values():
                scene.close()


@pytest.fixture(scope="session")
def shared(
    servers: Servers, form: Form, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shared]:
    made = Shared(servers, tmp_path_factory, form)
    yield made
    made.end()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if report.failed:
        item.stash[_FAILED] = True
    return report


_FAILED = pytest.StashKey[bool]()


@pytest.fixture
def scene(request: pytest.FixtureRequest, shared: Shared) -> Iterator[Scene]:
    """`@pytest.mark.parametrize("scene", ["deny"], indirect=True)`: refuses while away."""
    when_away = getattr(request, "param", "allow")
    yield shared.take(when_away)
    if request.node.stash.get(_FAILED, False):
        shared.spoil(when_away)
