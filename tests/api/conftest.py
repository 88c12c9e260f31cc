"""One gateway before a recorder, for every test of the two APIs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from tests.api.admin_client import Admin
from tests.api.office import Office, office
from tests.api.scene import Scene
from tests.support.configs import Caller, route
from tests.support.stage import Stage, stage

METERS = {
    "coins": {"title": "Coins", "decimals": 0},
    "credits": {"title": "Credits", "decimals": 2},
}
PLANS = {
    "small": {"allowances": {"coins": {"amount": 5, "per": "week"}}},
    "precise": {
        "allowances": {
            "coins": {"amount": 100, "per": "week"},
            "credits": {"amount": 10, "per": "month", "when_exhausted": "overage"},
        },
        "limits": {"hourly": "100/hour", "parallel": {"concurrent": 5, "per": "key"}},
    },
}


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    routes = [
        route("GET /one", {"coins": 1}, name="one", operation="One"),
        route("GET /two", {"coins": 2, "credits": 0.25}, name="two", operation="Two"),
        route("GET /free", name="free"),
        route("GET /open", name="open", callers=["api_key", "anonymous"]),
    ]
    directory = tmp_path_factory.mktemp("api")
    with stage(directory, routes, meters=METERS, plans=PLANS, default_plan="small") as running:
        yield running


@pytest.fixture(scope="session")
def admin(api: Stage) -> Admin:
    return Admin(api.gateway.data_dir)


_NUMBERS = count(1)


@pytest.fixture
def account(admin: Admin) -> str:
    """An account of this test alone, made at run time, on the plan `small`."""
    name = f"made-{next(_NUMBERS)}"
    admin.make("/accounts", id=name, title=name.title())
    return name


@pytest.fixture
def precise(admin: Admin) -> Caller:
    """A caller of an account of this test alone, on the plan `precise`."""
    name = f"precise-{next(_NUMBERS)}"
    admin.make("/accounts", id=name, plan="precise")
    return admin.new_caller(name, user="ada", project="web")


def status_of(api: Stage, who: Caller | None, path: str = "/one") -> int:
    return api.gateway.get(path, who).status


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with office(tmp_path_factory.mktemp("office")) as running:
        yield running


@contextmanager
def _scene(directory: Path) -> Iterator[Scene]:
    running = Scene(directory)
    try:
        yield running
    except BaseException:
        running.clocked.stop()
        running.recorder.stop()
        raise
    running.stop()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A gateway of this test alone, whose clock it moves."""
    with _scene(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One of several tests, none of which moves its clock."""
    with _scene(tmp_path_factory.mktemp("still")) as running:
        yield running
