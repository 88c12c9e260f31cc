"""Options that every test folder shares."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.support.stores import ALL_KINDS, KINDS, use_kind

# The same examples in every run; `pytest --hypothesis-profile search` looks for others.
settings.register_profile("fixed", derandomize=True)
settings.register_profile("search", derandomize=False)
settings.load_profile("fixed")


@pytest.fixture(params=KINDS)
def store_kind(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each kind of store in turn; see tests/support/stores.py."""
    before = use_kind(request.param)
    yield request.param
    use_kind(before)


def pytest_addoption(parser: pytest.Parser) -> None:
    kinds = (*ALL_KINDS, "workers")
    parser.addoption(
        "--store", choices=kinds, default="sqlite", help="of gateways that are started"
    )
    parser.addoption("--slow", action="store_true", help="run the tests that take minutes, too")
    parser.addoption(
        "--chaos-long", action="store_true", help="tests/chaos: longer, heavier, several rounds"
    )


def pytest_configure(config: pytest.Config) -> None:
    use_kind(config.getoption("--store"))
    config.addinivalue_line("markers", "slow: takes minutes; runs with --slow only")
    config.addinivalue_line("markers", "sqlite: breaks, or looks into, the SQLite file")
    config.addinivalue_line("markers", "acceptance(id): proves a case of the reference systems")
    config.addinivalue_line("markers", "one_process: looks into a hot state in memory")
    config.addinivalue_line("markers", "plan(name): the plan of the account that the test uses")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not asked for, rather than showing it as skipped."""
    left = set()
    if not config.getoption("--slow"):
        left |= {item for item in items if item.get_closest_marker("slow")}
    if config.getoption("--store") != "sqlite":
        left |= {item for item in items if item.get_closest_marker("sqlite")}
    if left:
        config.hook.pytest_deselected(items=list(left))
        items[:] = [item for item in items if item not in left]
