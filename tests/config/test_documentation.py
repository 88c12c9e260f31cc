"""docs/configuration.md names every key, figure and code, and shows the examples as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.config.compile_views import METER_FIGURES
from gateway.config.schema import json_schema
from gateway.core.figures import SOURCES
from gateway.core.refusals import KINDS
from tests.config.test_schema import properties

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "configuration.md").read_text("utf-8")
EXAMPLES = ("onetest", "onceonly", "testkase", "testomat", "apibricks")


def test_every_key_is_documented() -> None:
    names = {path.rpartition(".")[2] for path, _ in properties(json_schema())}
    assert sorted(name for name in names if f"`{name}" not in PAGE) == []


def test_every_code_is_documented_with_its_status() -> None:
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (\d{3}) \|", PAGE, re.MULTILINE))
    assert rows == {code: str(kind.status) for code, kind in KINDS.items()}


def test_every_figure_is_documented_with_when_it_is_known() -> None:
    rows = re.findall(r"^\| (`[^|]+`) \| (head|body|answer) \|", PAGE, re.MULTILINE)
    found = {
        name: at for names, at in rows for name in re.findall(r"`([a-z.]+)(?::[A-Z]+)?`", names)
    }
    assert found == {source: at for source, (at, _) in SOURCES.items()}


def test_every_figure_of_a_view_is_documented() -> None:
    (row,) = re.findall(r"^\| `\{meter.NAME.FIGURE\}` \| (.*) \|$", PAGE, re.MULTILINE)
    assert tuple(re.findall(r"`([a-z_]+)`", row)) == METER_FIGURES


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_worked_examples_are_excerpts(name: str) -> None:
    """Every line of an excerpt stands in the example, in the same order."""
    (section,) = re.findall(rf"^### {name}\.yaml.*?(?=^###|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    wanted = [line.strip() for line in section.split("\n") if line.startswith("    ")]
    lines = (ROOT / "config" / "examples" / f"{name}.yaml").read_text("utf-8").split("\n")
    rest = iter(line.strip() for line in lines)
    assert len(wanted) > 5
    assert [line for line in wanted if line not in rest] == []
