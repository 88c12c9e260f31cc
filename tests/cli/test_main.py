"""The group of commands: what there is, and that asking for it is quick."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from platform import python_version

import click
import pytest
from click.testing import CliRunner

from gateway.cli.main import COMMANDS, main
from gateway.core.version import installed_version
from tests.support.gateway import REPOSITORY

# Each takes 20 to 200 ms to import; help needs none of them.
HEAVY = ("aiohttp", "pydantic", "uvloop", "orjson", "structlog", "prometheus_client", "sqlite3")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    done = CliRunner().invoke(main, [name, "--help"])
    assert done.exit_code == 0
    assert "Usage:" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_what_the_command_says(name: str) -> None:
    module, attribute, text = COMMANDS[name]
    command = getattr(import_module(module), attribute)
    assert isinstance(command, click.Command)
    assert command.short_help == text


def test_unknown_command_exits_2() -> None:
    assert CliRunner().invoke(main, ["explode"]).exit_code == 2


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['tallygate', '--help']\n"
        "from gateway.cli.main import main\n"
        "try: main()\n"
        f"except SystemExit: print('HEAVY', sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "HEAVY []", done.stderr


@pytest.mark.parametrize("words", [["version"], ["--version"], ["--version", "serve"]])
def test_version(words: list[str]) -> None:
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0
    assert done.stdout == f"tallygate {installed_version()} (Python {python_version()})\n"


def test_serve_lists_every_problem(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("metres: {}\nroutes: 5\n")
    done = CliRunner().invoke(main, ["serve", "--config", str(file)])
    assert done.exit_code == 1
    lines = done.stderr.splitlines()
    assert len(lines) > 2
    assert all(line.startswith(f"{file}:") for line in lines[:-1])
    assert lines[-1].endswith("problems: not started")


def test_configuration_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLYGATE_CONFIG", str(tmp_path / "none.yaml"))
    done = CliRunner().invoke(main, ["keys", "list"])
    assert done.exit_code == 1
    assert "none.yaml" in done.stderr
