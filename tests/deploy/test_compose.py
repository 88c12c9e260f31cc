"""compose.yaml: against the specification's schema and a few rules; nothing is started."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.compose import Document, gateways, lint
from tests.deploy.images import DEPLOY, REPOSITORY

FILE = REPOSITORY / "compose.yaml"


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "secrets"
    subprocess.run(["sh", DEPLOY / "compose" / "secrets.sh", folder], check=True, timeout=30)
    return folder


@pytest.fixture
def document() -> Document:
    loaded: Document = yaml.safe_load(FILE.read_text())
    return deepcopy(loaded)  # anchors are shared objects; a test changes one place


def test_it_keeps_the_rules(document: Document, secrets: Path) -> None:
    assert lint(document, secrets) == []
    assert sorted(gateways(document)) == ["gateway", "gateway-1", "gateway-2"]


def test_only_one_gateway_and_its_backend_start_by_default(document: Document) -> None:
    names = [name for name, service in document["services"].items() if not service.get("profiles")]
    assert sorted(names) == ["backend", "gateway"]


Change = Callable[[dict[str, Any]], object]
WRONG: list[tuple[Change, str]] = [
    (lambda s: s["valkey"].update(image="valkey/valkey:latest"), "an image with a version"),
    (lambda s: s["valkey"].update(image="valkey/valkey"), "an image with a version"),
    (lambda s: s["valkey"].update(imgae="x"), "imgae"),
    (lambda s: s["gateway-2"].update(volumes=["data-1:/data"]), "data-1 is shared"),
    (lambda s: s["gateway"].update(volumes=["dta:/data"]), "dta is not declared"),
    (lambda s: s["gateway"].update(volumes=["./nothing.yaml:/x"]), "nothing.yaml is mounted"),
    (lambda s: s["gateway"]["entrypoint"].append("/config/x.yaml"), "nothing is mounted that is"),
    (lambda s: s["gateway"].pop("environment"), "expected TALLYGATE_CONFIG"),
    (lambda s: s["gateway"].update(stop_grace_period="30s"), "expected a stop_grace_period over"),
    (lambda s: s["gateway"].update(ports=["8080:80"]), "listens on 8080"),
    (lambda s: s["gateway-1"].update(ports=["8091:8080"]), "the admin port ['8081'] to be publ"),
    (lambda s: s["gateway"]["ports"].append("127.0.0.1:1:81"), "expected the admin port [] to be"),
    (lambda s: s["gateway-1"].update(ports=["8091:8080", "8191:8081"]), "published on 127.0.0.1"),
    (lambda s: s["gateway"].update(read_only=False), "expected read_only"),
    (lambda s: s["gateway"].update(user="0"), "expected the image's user"),
    (lambda s: s["gateway-1"].update(secrets=["key"]), "secret key is not declared"),
    (lambda s: s["gateway"].update(depends_on=_HEALTHY), "of another profile"),
    (lambda s: s["postgres"].pop("healthcheck"), "postgres: expected a health check"),
]
_HEALTHY = {"postgres": {"condition": "service_healthy"}}


@pytest.mark.parametrize(("change", "problem"), WRONG, ids=[text for _, text in WRONG])
def test_the_rules_catch(document: Document, secrets: Path, change: Change, problem: str) -> None:
    change(document["services"])
    found = lint(document, secrets)
    assert any(problem in text for text in found), found


def test_secrets_are_made_once_and_closed(tmp_path: Path) -> None:
    script, folder = DEPLOY / "compose" / "secrets.sh", tmp_path / "s"

    def made() -> dict[str, str]:
        subprocess.run(["sh", script, folder], check=True, timeout=30)
        return {path.name: path.read_text() for path in folder.iterdir()}

    first = made()
    assert made() == first, "a database knows the password that it was made with"
    password = first["postgres-password"].strip()
    assert len(password) == 48 and f":{password}@postgres:" in first["store-url"]
    assert first["valkey-auth"].split()[1] in first["state-url"]
    assert folder.stat().st_mode & 0o777 == 0o700
