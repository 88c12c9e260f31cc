"""What is wrong with a folder of Kubernetes manifests, as far as can be said without a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import kubernetes_validate
import yaml

from gateway.config import ConfigError, load
from gateway.core.book import Book
from tests.deploy.images import CONFIG_FILE, DATA_DIR, SHIPPING_S, USER, image_problems

Document = dict[str, Any]
VERSIONS = ("1.29", "1.34")  # the oldest that knows all of it, and a newer one
OF_KUSTOMIZE = "kustomization.yaml"
SECRET = "secret.example.yaml"
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


class Manifests(NamedTuple):
    """By kind and name, and what is beside them."""

    documents: dict[tuple[str, str], Document]
    kustomization: Document
    secret: Document
    folder: Path

    @property
    def workload(self) -> Document:
        return self.documents["StatefulSet", "tallygate"]

    @property
    def pod(self) -> Document:
        spec: Document = self.workload["spec"]["template"]["spec"]
        return spec

    @property
    def container(self) -> Document:
        (container,) = self.pod["containers"]
        made: Document = container
        return made


def read(folder: Path) -> Manifests:
    """Every file of the folder that kustomize is told of."""
    kustomization = yaml.safe_load((folder / OF_KUSTOMIZE).read_text())
    documents = {}
    for name in kustomization["resources"]:
        for document in yaml.safe_load_all((folder / name).read_text()):
            documents[document["kind"], document["metadata"]["name"]] = document
    secret = yaml.safe_load((folder / SECRET).read_text())
    return Manifests(documents, kustomization, secret, folder)


def lint(found: Manifests) -> list[str]:
    """What is wrong; where the schemas or the configuration are broken, only that."""
    problems = [*_schemas(found), *_secrets(found)] or list(_config(found))
    if problems:
        return problems
    for rule in (_files, _images, _selectors, _ports, _volumes, _security):
        problems += rule(found)
    return problems


def _schemas(found: Manifests) -> Iterator[str]:
    for document in (*found.documents.values(), found.secret):
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                path = ".".join(map(str, error.path))
                yield f"{document['kind']} {path} ({version}): {error.message}"


def _files(found: Manifests) -> Iterator[str]:
    known = {*found.kustomization["resources"], OF_KUSTOMIZE, SECRET}
    for generator in found.kustomization["configMapGenerator"]:
        known |= set(generator["files"])
    here = {path.name for path in found.folder.iterdir()}
    yield from (f"{name} is not in {OF_KUSTOMIZE}" for name in sorted(here - known))
    yield from (f"{name} is not there" for name in sorted(known - here))
    if found.secret["metadata"]["namespace"] != found.kustomization["namespace"]:
        yield "the secret is of another namespace"


def _images(found: Manifests) -> Iterator[str]:
    images = {image["name"]: image for image in found.kustomization["images"]}
    image = images.get(found.container["image"])
    if image is None:
        yield f"{OF_KUSTOMIZE} names no image for {found.container['image']}"
    else:
        yield from image_problems(OF_KUSTOMIZE, f"{image['newName']}:{image.get('newTag', '')}")


def _selectors(found: Manifests) -> Iterator[str]:
    labels = found.workload["spec"]["template"]["metadata"]["labels"].items()
    for (kind, name), document in found.documents.items():
        spec = document.get("spec", {})
        selector = spec.get("podSelector") or spec.get("selector")
        if selector is not None:
            wanted = selector.get("matchLabels", selector)
            if not wanted.items() <= labels:
                yield f"{kind} {name}: no pod has {wanted}"
        target = spec.get("scaleTargetRef")
        if target and (target["kind"], target["name"]) not in found.documents:
            yield f"{kind} {name}: scales what is not there"
    governing = found.documents.get(("Service", found.workload["spec"]["serviceName"]))
    if governing is None or governing["spec"].get("clusterIP") != "None":
        yield "StatefulSet: expected serviceName to be a headless service"
    grace_s = found.pod["terminationGracePeriodSeconds"]
    least_s = _pause_s(found) + _book(found).server.drain_timeout_s + SHIPPING_S
    if grace_s <= least_s:
        yield f"expected a terminationGracePeriodSeconds over {least_s}, found {grace_s}"


def _pause_s(found: Manifests) -> int:
    command = found.container["lifecycle"]["preStop"]["exec"]["command"]
    assert command[0] == "sleep", command
    return int(command[1])


def _ports(found: Manifests) -> Iterator[str]:
    ports = {port["name"]: port["containerPort"] for port in found.container["ports"]}
    book = _book(found)
    admin = book.admin_listener
    listened = {"proxy": book.proxy_listener.port, "admin": admin.port if admin else None}
    if ports != listened:
        yield f"the container has the ports {ports}, the configuration {listened}"
    used = [found.container[name]["httpGet"]["port"] for name in PROBES]
    for (kind, _), document in found.documents.items():
        if kind == "Service":
            used += [port["targetPort"] for port in document["spec"]["ports"]]
        if kind == "NetworkPolicy":
            rules = document["spec"]["ingress"]
            used += [port["port"] for rule in rules for port in rule["ports"]]
            open_to_all = [rule for rule in rules if "from" not in rule]
            if any(port["port"] != "proxy" for rule in open_to_all for port in rule["ports"]):
                yield "NetworkPolicy: expected the admin port to be closed"
    yield from (f"no port is named {port}" for port in used if port not in ports)


def _volumes(found: Manifests) -> Iterator[str]:
    declared = {volume["name"] for volume in found.pod["volumes"]}
    claims = found.workload["spec"]["volumeClaimTemplates"]
    declared |= {claim["metadata"]["name"] for claim in claims}
    mounts = {mount["name"]: mount["mountPath"] for mount in found.container["volumeMounts"]}
    yield from (f"volume {name} is not declared" for name in sorted(mounts.keys() - declared))
    yield from (f"volume {name} is not mounted" for name in sorted(declared - mounts.keys()))
    if [mounts.get(claim["metadata"]["name"]) for claim in claims] != [DATA_DIR]:
        yield f"expected one claim, at {DATA_DIR}"
    for claim in claims:
        size = claim["spec"]["resources"]["requests"]["storage"]
        journal = _book(found).journal
        if _bytes(size) < journal.max_bytes + 2 * journal.segment_bytes:
            yield f"expected a volume larger than the journal may grow, found {size}"


def _bytes(text: str) -> int:
    return int(text[:-2]) * _UNITS[text[-2:]]


def _secrets(found: Manifests) -> Iterator[str]:
    name = found.secret["metadata"]["name"]
    for volume in found.pod["volumes"]:
        secret = volume.get("secret")
        if secret is not None:
            if secret["secretName"] != name:
                yield f"secret {secret['secretName']} is not in {SECRET}"
            for item in secret["items"]:
                if item["key"] not in found.secret["stringData"]:
                    yield f"secret {name} has no key {item['key']}"


def _security(found: Manifests) -> Iterator[str]:
    pod, own = found.pod["securityContext"], found.container["securityContext"]
    if not pod.get("runAsNonRoot") or f"{pod['runAsUser']}:{pod['runAsGroup']}" != USER:
        yield f"expected the image's user {USER}, and no root"
    if not own.get("readOnlyRootFilesystem") or own.get("capabilities") != {"drop": ["ALL"]}:
        yield "expected a root file system that cannot be written, and no capabilities"
    if found.pod.get("automountServiceAccountToken") is not False:
        yield "expected no token of the cluster's API"


def _config(found: Manifests) -> Iterator[str]:
    mounts = {mount["name"]: mount["mountPath"] for mount in found.container["volumeMounts"]}
    (generator,) = found.kustomization["configMapGenerator"]
    maps = [v["name"] for v in found.pod["volumes"] if _map_of(v) == generator["name"]]
    where = [Path(mounts[name]) / file for name in maps for file in generator["files"]]
    if where != [CONFIG_FILE]:
        yield f"expected the configuration at {CONFIG_FILE}, found {where}"
    env = {entry["name"]: entry["value"] for entry in found.container["env"]}
    try:
        book = load(found.folder / CONFIG_FILE.name, {**env, **_given(found)}).book
    except ConfigError as error:
        yield from map(str, error.problems)
        return
    if book.data_dir != DATA_DIR:
        yield f"expected data_dir {DATA_DIR}, found {book.data_dir}"


def _map_of(volume: Document) -> str | None:
    name: str | None = volume.get("configMap", {}).get("name")
    return name


def _given(found: Manifests) -> dict[str, str]:
    """In the place of the mounted secret: files of the example's URLs."""
    folder = found.folder.parent / "mounted"
    folder.mkdir(exist_ok=True)
    for key, value in found.secret["stringData"].items():
        (folder / key).write_text(value + "\n")
    return {"SECRETS_DIR": str(folder)}


def _book(found: Manifests) -> Book:
    return load(found.folder / CONFIG_FILE.name, _given(found)).book
