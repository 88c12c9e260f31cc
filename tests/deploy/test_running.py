"""The shipped configurations serve: embedded, and two gateways with PostgreSQL and Valkey."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import yaml

from tests.deploy.deployed import Deployed, demo_backend, demo_valkey
from tests.deploy.images import DEPLOY, REPOSITORY
from tests.deploy.manifests import PROBES, read
from tests.support.configs import Caller
from tests.support.stores import postgres_url
from tests.support.until import until

FLEETS = {
    "compose": DEPLOY / "compose" / "config" / "distributed.yaml",
    "kubernetes": DEPLOY / "kubernetes" / "gateway.yaml",
}


@pytest.fixture(scope="module")
def backend() -> Iterator[str]:
    with demo_backend() as url:
        yield url


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """As secrets.sh makes them; then the servers are those of the test."""
    home = tmp_path_factory.mktemp("secrets")
    made = home / "made"
    subprocess.run(["sh", DEPLOY / "compose" / "secrets.sh", made], check=True, timeout=30)
    with demo_valkey(home, made / "valkey-auth") as port:
        given = home / "given"
        given.mkdir()
        url = (made / "state-url").read_text()
        assert "@valkey:6379/" in url
        (given / "state-url").write_text(url.replace("@valkey:6379/", f"@127.0.0.1:{port}/"))
        yield given


def newcomer(gateway: Deployed) -> Caller:
    """An account and its key, made as an operator does."""
    assert gateway.cli("accounts", "create", "acme").code == 0
    made = gateway.cli("keys", "create", "acme", "--json")
    assert made.code == 0, made.err
    return Caller("acme", json.loads(made.out)["key"])


@pytest.mark.parametrize("name", FLEETS)
def test_two_gateways_decide_as_one(name: str, backend: str, secrets: Path, tmp_path: Path) -> None:
    (secrets / "store-url").write_text(postgres_url(tmp_path) + "\n")
    env = {"SECRETS_DIR": str(secrets), "STATE_PREFIX": name, "BACKEND_URL": backend}
    one, two = (Deployed(FLEETS[name], tmp_path / n, env) for n in ("one", "two"))
    try:
        one.start()
        two.start()
        who = newcomer(one)
        for gateway, calls in ((one, 3), (two, 4)):
            for number in range(calls):
                assert gateway.get(f"/items/{1 + number % 3}", who).status == 200
        for gateway in (one, two):
            until(lambda g=gateway: g.usage(who)["used"], lambda n: n == 7, what="all of them")  # type: ignore[misc]
            for path in probes():
                assert gateway.admin(path).status == 200
        assert two.usage(who)["remaining"] == 993
        for gateway in (one, two):
            done = gateway.cli("audit")
            assert done.code == 0, (done.out, done.err)
            gateway.stop()
    finally:
        one.kill()
        two.kill()


def probes() -> set[str]:
    """What the kubelet asks."""
    container = read(DEPLOY / "kubernetes").container
    return {container[probe]["httpGet"]["path"] for probe in PROBES}


def test_one_embedded_gateway(backend: str, tmp_path: Path) -> None:
    file = DEPLOY / "compose" / "config" / "embedded.yaml"
    gateway = Deployed(file, tmp_path / "one", {"BACKEND_URL": backend})
    try:
        gateway.start()
        who = newcomer(gateway)
        assert [gateway.get("/items", who).status for _ in range(3)] == [200] * 3
        assert gateway.settled_usage(who)["used"] == 3
        assert healthcheck("gateway", gateway.admin_port) == 0
        gateway.stop()
        assert healthcheck("gateway", gateway.admin_port) != 0
    finally:
        gateway.kill()


def healthcheck(service: str, port: int) -> int:
    """compose.yaml's, as it stands there but for the port."""
    document = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())
    _, program, *arguments = document["services"][service]["healthcheck"]["test"]
    assert program == "python" and ":8081/" in arguments[1]
    arguments[1] = arguments[1].replace(":8081/", f":{port}/")
    done = subprocess.run([sys.executable, *arguments], capture_output=True, timeout=30)
    return done.returncode


def test_valkey_keeps_what_it_is_told(secrets: Path) -> None:
    url = (secrets / "state-url").read_text().strip()
    with redis.Redis.from_url(url, protocol=2) as server:
        assert server.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert server.config_get("appendonly") == {"appendonly": "yes"}
