"""A configuration with a data directory of its own, and commands run on it in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from gateway.cli.main import main
from tests.support.configs import Caller, Config, caller, config, route, write

DECLARED = caller("declared")


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def fields(self) -> dict[str, str]:
        """`name:  value` lines as a dictionary."""
        pairs = (line.partition(":") for line in self.out.splitlines())
        return {name: value.strip() for name, _, value in pairs}


Run = Callable[..., Ran]


def run(file: Path, *arguments: str) -> Ran:
    """`tallygate ARGUMENTS --config FILE`."""
    done = CliRunner().invoke(main, [*arguments, "--config", str(file)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Ran(done.exit_code, done.stdout, done.stderr)


def configuration(backend_port: int = 9) -> Config:
    return config(
        backend_port,
        routes=[route("GET /one", {"coins": 1}, name="one", operation="One")],
        callers={"small": [DECLARED]},
        meters={"coins": {"title": "Coins"}, "credits": {"decimals": 2}},
        plans={
            "small": {"allowances": {"coins": {"amount": 5, "per": "week"}}},
            "large": {"allowances": {"credits": {"amount": 100, "per": "month"}}},
        },
        default_plan="small",
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration of which no gateway runs."""
    path = tmp_path / "gateway.yaml"
    write(configuration(), path, port=0, admin_port=0, data_dir=tmp_path / "data")
    return path


@pytest.fixture
def offline(file: Path) -> Run:
    """Where a gateway has been, and has kept nothing."""
    data_dir = file.parent / "data"
    data_dir.mkdir()
    (data_dir / "lock").touch(0o600)
    return lambda *arguments: run(file, *arguments)


def declared() -> Caller:
    return DECLARED
