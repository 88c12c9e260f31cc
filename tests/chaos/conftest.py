"""The servers of a run, its form (`--chaos-long`), and the table that it ends with.

A scene is shared by scenarios for as long as they succeed; one that fails gets the next
one a new scene. An unusual one ends with its module, for all have to share the machine.
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
from tests.chaos.shared import USUAL, Shared

_ROWS = pytest.StashKey[list[Row]]()


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


def _scenes(
    servers: Servers, form: Form, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shared]:
    made = Shared(servers, tmp_path_factory, form)
    yield made
    made.end()


# Scenes of the usual setting last for the run, others for their module.
shared = pytest.fixture(scope="session", name="shared")(_scenes)
unusual = pytest.fixture(scope="module", name="unusual")(_scenes)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if report.failed:
        item.stash[_FAILED] = True
    return report


_FAILED = pytest.StashKey[bool]()


@pytest.fixture
def scene(request: pytest.FixtureRequest, shared: Shared, unusual: Shared) -> Iterator[Scene]:
    """`@pytest.mark.parametrize("scene", [DENY], indirect=True)`: another setting."""
    setting = getattr(request, "param", USUAL)
    scenes = shared if setting.is_usual else unusual
    yield scenes.take(setting)
    if request.node.stash.get(_FAILED, False):
        scenes.spoil(setting)
