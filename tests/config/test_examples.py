"""The five shipped configurations: accepted as they are, by `check` and by the JSON Schema."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import load
from gateway.config.words import price_text
from tests.config.test_schema import errors

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "config" / "examples").glob("*.yaml"))
ENV = {"SESSION_SECRET": "0123456789abcdef0123456789abcdef"}
# What an example does on purpose; every other warning is a mistake of the example.
MEANT = ("is free", "what no route names is passed on", "reserves nothing for")


def test_there_are_five() -> None:
    names = ["apibricks", "onceonly", "onetest", "testkase", "testomat"]
    assert [path.stem for path in EXAMPLES] == names


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.stem))
def test_it_is_accepted(path: Path) -> None:
    loaded = load(path, ENV)
    said = [w.message for w in loaded.warnings if not any(text in w.message for text in MEANT)]
    assert said == []
    assert errors(path.read_text("utf-8")) == []
    for route in loaded.book.routes:
        for price in route.prices.values():
            assert price_text(price, loaded.book.meters)
