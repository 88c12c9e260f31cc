"""The image: its Dockerfile against a few rules, and its install steps for real.

No container engine is needed. The build stage is replayed: exactly the files
that it copies, its own RUN line, in a clean virtual environment.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
INSTALLED_IN = "/opt/tallygate"
UNREACHABLE = ("NewConnectionError", "Temporary failure in name resolution", "ReadTimeoutError")


class Instruction(NamedTuple):
    name: str
    value: str
    stage: int


def instructions(text: str) -> list[Instruction]:
    """The instructions of a Dockerfile, continued lines joined, comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    found, stage = [], -1
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if line.strip():
            name, _, value = line.strip().partition(" ")
            stage += name == "FROM"
            found.append(Instruction(name, value.strip(), stage))
    return found


def lint(text: str) -> list[str]:
    """What is wrong with a Dockerfile."""
    found = instructions(text)
    last = max(i.stage for i in found)
    final = [i for i in found if i.stage == last]

    def values(name: str) -> list[str]:
        return [i.value for i in final if i.name == name]

    problems = []
    if last < 1:
        problems.append("expected several stages, found one")
    for base in (i.value.split()[0] for i in found if i.name == "FROM"):
        tag = base.partition(":")[2]
        if tag in ("", "latest"):
            problems.append(f"expected a base with a version, found {base}")
    if not values("USER") or values("USER")[-1].split(":")[0] in ("root", "0"):
        problems.append("expected a user without privileges")
    if not values("HEALTHCHECK") or "/healthz" not in values("HEALTHCHECK")[0]:
        problems.append("expected a health check of /healthz")
    for name in ("ENTRYPOINT", "CMD"):
        problems += [f"expected {name} in exec form" for v in values(name) if not _is_list(v)]
    if not values("ENTRYPOINT"):
        problems.append("expected an entry point")
    if [json.loads(v) for v in values("VOLUME") if _is_list(v)] != [["/data"]]:
        problems.append("expected the one volume /data")
    problems += [f"expected COPY, found ADD {i.value}" for i in found if i.name == "ADD"]
    return problems


def _is_list(value: str) -> bool:
    try:
        return isinstance(json.loads(value), list)
    except ValueError:
        return False


DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()


def test_dockerfile_keeps_the_rules() -> None:
    assert lint(DOCKERFILE) == []
    entry = next(i.value for i in instructions(DOCKERFILE) if i.name == "ENTRYPOINT")
    assert json.loads(entry) == ["tallygate", "serve", "--config", "/config/gateway.yaml"]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("python:3.13-slim AS", "python:latest AS", "a base with a version, found python:latest"),
        ("USER 10001:10001", "USER root", "a user without privileges"),
        ('VOLUME ["/data"]', 'VOLUME ["/data", "/tmp"]', "the one volume /data"),
        ('ENTRYPOINT ["tallygate", ', 'ENTRYPOINT tallygate ["', "ENTRYPOINT in exec form"),
        ("HEALTHCHECK", "LABEL", "a health check of /healthz"),
    ],
)
def test_the_rules_catch(old: str, new: str, problem: str) -> None:
    assert old in DOCKERFILE
    assert any(problem in found for found in lint(DOCKERFILE.replace(old, new)))


def test_ignore_file_keeps_secrets_and_data_out() -> None:
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*", "everything is left out unless it is named"
    copied = {i.value.split()[0] for i in instructions(DOCKERFILE) if i.name == "COPY"}
    named = {rule[1:] for rule in rules if rule.startswith("!")}
    assert {name for name in copied if not name.startswith("--from")} == named


def test_install_steps_make_a_working_command(tmp_path: Path) -> None:
    """The build stage, replayed; then the installed command away from the checkout."""
    source, target = tmp_path / "src", tmp_path / "opt"
    source.mkdir()
    build = [i for i in instructions(DOCKERFILE) if i.stage == 0]
    for name in (i.value.split()[0] for i in build if i.name == "COPY"):
        if (REPOSITORY / name).is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(REPOSITORY / name, source / name, ignore=ignore)
        else:
            shutil.copy(REPOSITORY / name, source / name)
    (command,) = [i.value for i in build if i.name == "RUN"]
    assert INSTALLED_IN in command
    replayed = command.replace(INSTALLED_IN, str(target)).replace(
        "python -m", f"{sys.executable} -m"
    )
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        replayed, shell=True, cwd=source, env=env, capture_output=True, text=True, timeout=300
    )
    if done.returncode and any(text in done.stderr for text in UNREACHABLE):
        pytest.skip("no package registry can be reached")
    assert done.returncode == 0, done.stderr[-3000:]
    tallygate = str(target / "bin" / "tallygate")
    config = str(REPOSITORY / "config" / "gateway.yaml")
    for arguments in (["--help"], ["check", config], ["version"], ["schema"]):
        ran = subprocess.run(
            [tallygate, *arguments],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ran.returncode == 0, (arguments, ran.stdout, ran.stderr)
        assert ran.stderr == ""
    assert list(target.rglob("store/migrations/0001_init.sql")), "the package's data is missing"
