"""deploy/kubernetes: against the schemas of Kubernetes and a few rules; no cluster is needed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.images import DEPLOY
from tests.deploy.manifests import Manifests, lint, read

FOLDER = DEPLOY / "kubernetes"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy: its neighbour is where the checks put the example's secrets."""
    return Path(shutil.copytree(FOLDER, tmp_path / "kubernetes"))


def test_they_keep_the_rules(folder: Path) -> None:
    assert lint(read(folder)) == []


Change = Callable[[Manifests], object]
WRONG: list[tuple[Change, str]] = [
    (lambda m: m.container.update(imagge="x"), "imagge"),
    (lambda m: m.container.update(image="gateway"), "names no image for gateway"),
    (lambda m: m.kustomization["images"][0].update(newTag="latest"), "an image with a version"),
    (lambda m: m.pod.update(terminationGracePeriodSeconds=60), "terminationGracePeriodSeconds"),
    (lambda m: m.container["ports"].pop(), "the container has the ports"),
    (lambda m: m.container["livenessProbe"]["httpGet"].update(port="x"), "no port is named x"),
    (lambda m: m.pod["volumes"].pop(), "volume tmp is not declared"),
    (lambda m: m.container["volumeMounts"].pop(), "volume tmp is not mounted"),
    (lambda m: m.secret["stringData"].pop("state-url"), "no key state-url"),
    (lambda m: m.pod["securityContext"].update(runAsUser=0), "expected the image's user"),
    (lambda m: m.container["securityContext"].pop("capabilities"), "no capabilities"),
    (lambda m: m.pod.pop("automountServiceAccountToken"), "no token of the cluster"),
    (lambda m: _service(m)["selector"].update(app="x"), "no pod has"),
    (lambda m: _service(m)["ports"][0].update(targetPort="http"), "no port is named http"),
    (lambda m: m.workload["spec"].update(serviceName="tallygate"), "a headless service"),
    (lambda m: _policy(m)[1].pop("from"), "the admin port to be closed"),
    (lambda m: _claim(m).update(storage="1Gi"), "larger than the journal"),
    (lambda m: m.kustomization["resources"].pop(), "autoscaler.yaml is not in"),
    (lambda m: (m.folder / "gateway.yaml").write_text("routs: []"), "routs"),
]


def _service(found: Manifests) -> dict[str, Any]:
    spec: dict[str, Any] = found.documents["Service", "tallygate"]["spec"]
    return spec


def _policy(found: Manifests) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = found.documents["NetworkPolicy", "tallygate"]["spec"]["ingress"]
    return rules


def _claim(found: Manifests) -> dict[str, Any]:
    (claim,) = found.workload["spec"]["volumeClaimTemplates"]
    requests: dict[str, Any] = claim["spec"]["resources"]["requests"]
    return requests


@pytest.mark.parametrize(("change", "problem"), WRONG, ids=[text for _, text in WRONG])
def test_the_rules_catch(folder: Path, change: Change, problem: str) -> None:
    found = read(folder)
    change(found)
    problems = lint(found)
    assert any(problem in text for text in problems), problems


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_makes_one_stream_of_them() -> None:
    command = ["kubectl", "kustomize", str(FOLDER)]
    made = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    documents = {d["kind"]: d for d in yaml.safe_load_all(made)}
    assert set(documents) == {kind for kind, _ in read(FOLDER).documents} | {"ConfigMap"}
    (container,) = documents["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.example.com/tallygate:0.1.0"
    assert "gateway.yaml" in documents["ConfigMap"]["data"]
