"""Imports go down only, and the core stays pure.

Each folder of the package may import the folders named beside it, and itself.
The whole of every file is read, so imports inside functions count too.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "gateway"
RECORDS = frozenset({"state", "journal", "store"})
# cli -> app -> proxy, api -> usage -> state, journal, store -> core; config -> core.
MAY_IMPORT: dict[str, frozenset[str]] = {
    "core": frozenset(),
    "config": frozenset({"core"}),
    "log": frozenset(),
    "state": frozenset({"core"}),
    "journal": frozenset({"core"}),
    "store": frozenset({"core"}),
    "usage": RECORDS | {"core"},
    "proxy": RECORDS | {"core", "usage"},
    # What an operator types is read by the parsers of the configuration.
    "api": RECORDS | {"core", "usage", "proxy", "config", "workers"},
    "fleet": RECORDS | {"core", "proxy"},
    "follow": frozenset({"core", "config", "store", "workers"}),
    # What passes between the supervisor and its workers.
    "workers": frozenset({"core", "proxy"}),
    "app": RECORDS
    | {"core", "usage", "proxy", "config", "api", "log", "fleet", "follow", "workers"},
    "process": RECORDS | {"proxy", "config", "log", "app"},
    "worker": frozenset({"core", "proxy", "api", "log", "workers", "app", "process"}),
    "supervisor": RECORDS | {"core", "config", "api", "log", "workers"},
    "demo": RECORDS | {"core", "config", "api", "log", "app"},
    "cli": RECORDS
    | {"core", "usage", "proxy", "config", "api", "log", "app", "demo", "process", "supervisor"},
    "__main__": frozenset({"cli"}),
}
# With these a decision of the core would depend on more than its arguments.
NOT_IN_CORE = frozenset({"asyncio", "time", "random", "os", "logging"})


class Import(NamedTuple):
    """One imported module, and where that is written."""

    path: Path
    line: int
    module: str

    @property
    def where(self) -> str:
        return f"{self.path.relative_to(PACKAGE.parent)}:{self.line}"


def part_of(path: Path) -> str:
    """The folder below the package, or the file's name at its top."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> Iterator[Import]:
    """Every import of a file, `from a import b` as `a.b`."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative imports hide the direction"
            for alias in node.names:
                yield Import(path, node.lineno, f"{node.module}.{alias.name}")


def broken_rules(found: Import) -> Iterator[str]:
    """What one import breaks, as `file:line: rule`."""
    importer = part_of(found.path)
    top, _, rest = found.module.partition(".")
    if top == "gateway":
        imported = rest.partition(".")[0]
        if imported != importer and imported not in MAY_IMPORT[importer]:
            allowed = ", ".join(sorted(MAY_IMPORT[importer])) or "nothing of the gateway"
            yield f"{found.where}: {importer} may import {allowed}, found gateway.{imported}"
    elif importer == "core":
        if top not in sys.stdlib_module_names:
            yield f"{found.where}: core may import the standard library only, found {top}"
        elif top in NOT_IN_CORE:
            yield f"{found.where}: core may not import {top}: time and chance are arguments"


def files() -> list[Path]:
    # Migrations and the like are no modules.
    return sorted(PACKAGE.rglob("*.py"))


def test_every_part_has_a_rule() -> None:
    assert {part_of(path) for path in files()} - {"__init__"} == set(MAY_IMPORT)


def test_imports_go_down_only() -> None:
    problems = [
        problem
        for path in files()
        if path != PACKAGE / "__init__.py"
        for found in imports_of(path)
        for problem in broken_rules(found)
    ]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    ("part", "module", "is_broken"),
    [
        ("core/x.py", "gateway.core.book", False),
        ("core/x.py", "gateway.state.base", True),
        ("core/x.py", "dataclasses.dataclass", False),
        ("core/x.py", "time", True),
        ("core/x.py", "orjson.dumps", True),
        ("proxy/x.py", "gateway.api.usage", True),
        ("api/x.py", "gateway.proxy.answer", False),
        ("store/x.py", "gateway.config.load", True),
        ("app.py", "gateway.cli.main", True),
        ("cli/x.py", "gateway.app.run", False),
    ],
)
def test_the_rules_catch(part: str, module: str, is_broken: bool) -> None:
    problems = list(broken_rules(Import(PACKAGE / part, 7, module)))
    assert bool(problems) == is_broken
    assert all(problem.startswith(f"gateway/{part}:7: ") for problem in problems)
