"""docs/configuration.md names every key, every default that can differ, and every code."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.config.schema import json_schema
from gateway.core.refusals import KINDS
from tests.config.test_schema import properties

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "configuration.md").read_text("utf-8")


def test_every_key_is_documented() -> None:
    names = {path.rpartition(".")[2] for path, _ in properties(json_schema())}
    assert sorted(name for name in names if f"`{name}" not in PAGE) == []


def test_every_code_is_documented_with_its_status() -> None:
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (\d{3}) \|", PAGE, re.MULTILINE))
    assert rows == {code: str(kind.status) for code, kind in KINDS.items()}
