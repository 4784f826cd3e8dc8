"""The files of deploy/kubernetes, as documents."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

Document = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
DIRECTORY = ROOT / "deploy" / "kubernetes"
SECRET = DIRECTORY / "gateway" / "secret.example.yaml"
PROXY, ADMIN = 8000, 5000


def load(path: Path) -> list[Document]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document is not None]


def kustomization(name: str) -> Document:
    [document] = load(DIRECTORY / name / "kustomization.yaml")
    return document


def resources(name: str) -> list[Document]:
    """The documents that a kustomization lists."""
    files = [
        DIRECTORY / name / entry for entry in kustomization(name)["resources"] if entry.endswith(".yaml")
    ]
    return [document for file in files for document in load(file)]


def find(kind: str, name: str | None = None, *, of: str = "gateway") -> Document:
    found = [
        document
        for document in resources(of)
        if document["kind"] == kind and name in (None, document["metadata"]["name"])
    ]
    assert len(found) == 1, f"{len(found)} of {kind} {name}"
    return found[0]


def pod() -> Document:
    """The pod's spec of the gateway."""
    spec: Document = find("Deployment")["spec"]["template"]["spec"]
    return spec


def container() -> Document:
    [only] = pod()["containers"]
    return dict(only)


def environment(secrets: dict[str, str], *, name: str = "gateway-7d9c5b-x2x4z") -> dict[str, str]:
    """The variables that the container gets, with the values of the Secret's keys."""
    limits = container()["resources"]["limits"]
    values: dict[str, str] = {}
    for source in container()["envFrom"]:
        values |= find("ConfigMap", source["configMapRef"]["name"])["data"]
    for item in container()["env"]:
        match item["valueFrom"]:
            case {"secretKeyRef": {"name": "gateway-secrets", "key": key}}:
                values[item["name"]] = secrets[key]
            case {"fieldRef": {"fieldPath": "metadata.name"}}:
                values[item["name"]] = name
            case {"resourceFieldRef": {"containerName": "gateway", "resource": "limits.cpu", "divisor": "1"}}:
                values[item["name"]] = limits["cpu"]
            case other:
                raise AssertionError(f"{item['name']}: {other}")
    return values


def patched() -> Document:
    """The autoscaler as custom-metric/ makes it."""
    target = copy.deepcopy(find("HorizontalPodAutoscaler"))
    [patch] = kustomization("custom-metric")["patches"]
    for operation in yaml.safe_load((DIRECTORY / "custom-metric" / patch["path"]).read_text()):
        assert (operation["op"], operation["path"]) == ("add", "/spec/metrics/-")
        target["spec"]["metrics"].append(operation["value"])
    return target
