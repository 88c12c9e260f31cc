"""What is wrong with a compose file, as far as can be said without an engine."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from jsonschema.validators import validator_for

from gateway.config import ConfigError, load
from gateway.core.book import Book
from tests.deploy.images import DATA_DIR, REPOSITORY, SHIPPING_S, USER, image_problems

Document = dict[str, Any]
_SCHEMA = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
_VARIABLE = re.compile(r"\$\{\w+:-([^}]*)\}")


def defaults(text: str) -> str:
    """${NAME:-default} as it reads where NAME is not set."""
    return _VARIABLE.sub(r"\1", text)


def gateways(document: Document) -> dict[str, Document]:
    """The services that serve, and not only run the image."""
    return {
        name: service
        for name, service in document["services"].items()
        if service.get("entrypoint", ())[:2] == ["tallygate", "serve"]
    }


def lint(document: Document, secrets: Path) -> list[str]:
    """`secrets` is a folder as secrets.sh makes it."""
    schema = json.loads(_SCHEMA.read_text())
    found = [
        f"{'.'.join(map(str, error.path))}: {error.message}"
        for error in validator_for(schema)(schema).iter_errors(document)
    ]
    if found:
        return found
    for name, service in document["services"].items():
        found += image_problems(name, defaults(service["image"]))
        found += _references(document, name, service)
        if "healthcheck" not in service:
            found.append(f"{name}: expected a health check")
    found += _volumes(document)
    found += _secret_files(document, secrets)
    for name, service in gateways(document).items():
        found += _gateway(name, service, secrets)
    return found


def _references(document: Document, name: str, service: Document) -> Iterator[str]:
    services = document["services"]
    for other, how in service.get("depends_on", {}).items():
        if other not in services:
            yield f"{name}: depends on {other}, which is no service"
            continue
        if not set(services[other].get("profiles", ())) <= set(service.get("profiles", ())):
            yield f"{name}: depends on {other} of another profile"
        if how["condition"] == "service_healthy" and "healthcheck" not in services[other]:
            yield f"{name}: waits for the health of {other}, which has no check"
    for secret in service.get("secrets", ()):
        if secret not in document["secrets"]:
            yield f"{name}: secret {secret} is not declared"


def _mounts(service: Document) -> Iterator[tuple[str, str]]:
    for mount in service.get("volumes", ()):
        source, target, *_ = mount.split(":")
        yield source, target


def _volumes(document: Document) -> Iterator[str]:
    sources = Counter(
        source for service in document["services"].values() for source, _ in _mounts(service)
    )
    declared = set(document["volumes"])
    named = {source for source in sources if not source.startswith(".")}
    yield from (f"volume {name} is not declared" for name in sorted(named - declared))
    yield from (f"volume {name} is not used" for name in sorted(declared - named))
    yield from (f"volume {name} is shared" for name in sorted(named) if sources[name] > 1)
    for source in sorted(set(sources) - named):
        if not (REPOSITORY / source).exists():
            yield f"{source} is mounted and is not there"


def _secret_files(document: Document, secrets: Path) -> Iterator[str]:
    for name, secret in document["secrets"].items():
        file = Path(secret["file"])
        if file.parent != Path("deploy/compose/secrets") or not (secrets / file.name).is_file():
            yield f"secret {name}: {file} is not made by secrets.sh"


def _gateway(name: str, service: Document, secrets: Path) -> Iterator[str]:
    if service.get("user") != USER:
        yield f"{name}: expected the image's user {USER}, found {service.get('user')}"
    if not service.get("read_only") or service.get("cap_drop") != ["ALL"]:
        yield f"{name}: expected read_only and cap_drop: [ALL]"
    mounts = {target: source for source, target in _mounts(service)}
    if mounts.get(DATA_DIR, ".").startswith("."):
        yield f"{name}: expected a named volume at {DATA_DIR}"
    file = Path(service["entrypoint"][-1])
    if service.get("environment") != {"TALLYGATE_CONFIG": str(file)}:
        yield f"{name}: expected TALLYGATE_CONFIG to be {file}, for the command line"
    folder = mounts.get(str(file.parent))
    if folder is None or not (REPOSITORY / folder / file.name).is_file():
        yield f"{name}: nothing is mounted that is {file}"
        return
    try:
        book = configured(REPOSITORY / folder / file.name, secrets)
    except ConfigError as error:
        yield from (f"{name}: {problem}" for problem in error.problems)
        return
    yield from _fits(name, service, book)


def configured(file: Path, secrets: Path) -> Book:
    """The book of a configuration, with nothing set but where the secrets are."""
    return load(file, {"SECRETS_DIR": str(secrets)}).book


def _fits(name: str, service: Document, book: Book) -> Iterator[str]:
    """Whether service and configuration mean the same."""
    grace_s = int(service["stop_grace_period"].removesuffix("s"))
    least_s = book.server.drain_timeout_s + SHIPPING_S
    if grace_s <= least_s:
        yield f"{name}: expected a stop_grace_period over {least_s} s, found {grace_s} s"
    yield from _published(name, service, book)
    if book.data_dir != DATA_DIR:
        yield f"{name}: expected data_dir {DATA_DIR}, found {book.data_dir}"
    admin = book.admin_listener
    asked = f"http://127.0.0.1:{admin.port}/healthz" if admin is not None else "no listener"
    if asked not in str(service["healthcheck"]):
        yield f"{name}: the health check asks for what is not there"


def _published(name: str, service: Document, book: Book) -> Iterator[str]:
    """The proxy to all, the admin listener to this machine where containers reach it at all."""
    inside = defaults(service["ports"][0]).rpartition(":")[2]
    if inside != str(book.proxy_listener.port):
        yield f"{name}: publishes {inside}, listens on {book.proxy_listener.port}"
    admin = book.admin_listener
    wanted = [] if admin is None or admin.host == "127.0.0.1" else [str(admin.port)]
    rest = [defaults(port).rpartition(":") for port in service["ports"][1:]]
    if [inside for _, _, inside in rest] != wanted:
        yield f"{name}: expected the admin port {wanted} to be published, found {rest}"
    for host, _, inside in rest:
        if not host.startswith("127.0.0.1:"):
            yield f"{name}: expected {inside} to be published on 127.0.0.1, found {host!r}"
