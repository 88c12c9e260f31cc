"""The five reference systems as shipped, and the table of their promises at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.acceptance.shop import Shop
from tests.support.backends import RealServer, httpbin
from tests.support.products import ThreadedApp, language_model, locks, market_data, uploads

PROMISES: dict[str, str] = {
    case: text
    for cases in yaml.safe_load((Path(__file__).parent / "promises.yaml").read_text()).values()
    for case, text in cases.items()
}
_OUTCOMES: dict[str, set[str]] = {}  # by id: of every test that has it
_IDS: dict[str, tuple[str, ...]] = {}  # by test


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        ids = [str(case) for mark in item.iter_markers("acceptance") for case in mark.args]
        unknown = set(ids) - PROMISES.keys()
        if unknown:
            raise pytest.UsageError(f"{item.nodeid}: no such promise: {', '.join(unknown)}")
        if ids:
            _IDS[item.nodeid] = tuple(ids)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.outcome != "passed":
        for case in _IDS.get(report.nodeid, ()):
            _OUTCOMES.setdefault(case, set()).add(report.outcome)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _OUTCOMES:
        return
    terminalreporter.section("promises of the reference systems")
    passed = 0
    for case, text in PROMISES.items():
        outcomes = _OUTCOMES.get(case, set())
        shown = "no test" if not outcomes else "passed" if outcomes == {"passed"} else "FAILED"
        passed += shown == "passed"
        terminalreporter.line(f"{case:13} {shown:8} {text}")
    terminalreporter.line(f"{passed} of {len(PROMISES)} passed")


# -- backends --------------------------------------------------------------


@pytest.fixture(scope="session")
def anything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """httpbin, which answers every method at every path: the URL."""
    server: RealServer = httpbin(tmp_path_factory.mktemp("httpbin"))
    yield f"http://127.0.0.1:{server.port}/anything"
    server.stop()


@contextmanager
def _serving(app: ThreadedApp) -> Iterator[ThreadedApp]:
    try:
        yield app
    finally:
        app.stop()


@pytest.fixture(scope="session")
def model() -> Iterator[ThreadedApp]:
    with _serving(ThreadedApp(language_model)) as app:
        yield app


@pytest.fixture(scope="session")
def market() -> Iterator[ThreadedApp]:
    with _serving(ThreadedApp(market_data)) as app:
        yield app


@pytest.fixture(scope="session")
def uploader() -> Iterator[ThreadedApp]:
    with _serving(ThreadedApp(uploads)) as app:
        yield app


@pytest.fixture
def lock_service() -> Iterator[ThreadedApp]:
    with _serving(ThreadedApp(locks)) as app:
        yield app


# -- the shipped configurations, each anew for every test ------------------


@contextmanager
def _open(shop: Shop) -> Iterator[Shop]:
    try:
        yield shop
    except BaseException:
        shop.clocked.stop()
        raise
    shop.stop()


@pytest.fixture
def onetest(tmp_path: Path, anything: str) -> Iterator[Shop]:
    env = {"TESTS_URL": anything, "AGENTS_URL": anything, "INGESTION_URL": anything}
    with _open(Shop("onetest", tmp_path, env)) as shop:
        yield shop


@pytest.fixture
def onceonly(tmp_path: Path, lock_service: ThreadedApp) -> Iterator[Shop]:
    with _open(Shop("onceonly", tmp_path, {"BACKEND_URL": lock_service.url})) as shop:
        yield shop


@pytest.fixture
def testkase(tmp_path: Path, model: ThreadedApp) -> Iterator[Shop]:
    with _open(Shop("testkase", tmp_path, {"BACKEND_URL": model.url})) as shop:
        yield shop


@pytest.fixture
def testomat(tmp_path: Path, uploader: ThreadedApp) -> Iterator[Shop]:
    with _open(Shop("testomat", tmp_path, {"BACKEND_URL": uploader.url})) as shop:
        yield shop


@pytest.fixture
def testomat_ai(tmp_path: Path, model: ThreadedApp) -> Iterator[Shop]:
    with _open(Shop("testomat", tmp_path, {"BACKEND_URL": model.url})) as shop:
        yield shop


@pytest.fixture
def apibricks(tmp_path: Path, market: ThreadedApp) -> Iterator[Shop]:
    names = ("MARKET_DATA", "EXCHANGE_RATES", "INDEXES", "FILINGS", "FLAT_FILES")
    with _open(Shop("apibricks", tmp_path, {f"{name}_URL": market.url for name in names})) as shop:
        yield shop
