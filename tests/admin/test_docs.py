"""The documentation describes the endpoints there are, and its examples work."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from hotswap_proxy.admin.handlers import ENDPOINTS
from hotswap_proxy.model import Backend, HealthCheck, Model, Route
from hotswap_proxy.model.policy import Cors, Validation
from hotswap_proxy.model.policy.auth import ApiKeyAuth, JwtAuth
from hotswap_proxy.settings import Settings
from tests.gateway import Gateway

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLE = re.compile(r"<!-- example: (?P<name>[^>]+) -->\n```\w+\n(?P<body>.*?)```", re.DOTALL)


def examples(name: str) -> dict[str, str]:
    return {found["name"].strip(): found["body"] for found in EXAMPLE.finditer((DOCS / name).read_text())}


def test_every_endpoint_is_described_and_none_else() -> None:
    described = set(re.findall(r"^\| (GET|POST|PUT|DELETE) (/\S+) \|", (DOCS / "api.md").read_text(), re.M))
    assert described == {(endpoint.method, endpoint.path) for endpoint in ENDPOINTS}


@pytest.mark.anyio
async def test_the_examples_of_the_api_work(gateway: Gateway) -> None:
    found = EXAMPLE.findall((DOCS / "api.md").read_text())
    assert len(found) == 7
    for name, body in found:
        method, path = name.split()
        answer = await gateway.client.request(method, path, json=json.loads(body))
        assert answer.is_success, (name, answer.text)
    assert gateway.match("/users/1") == "1.0" and gateway.match("/orders/7") == "1.0"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "page", ["authentication.md", "cors.md", "regions.md", "transformations.md", "validation.md"]
)
async def test_the_examples_of_policies_work(gateway: Gateway, page: str) -> None:
    found = EXAMPLE.findall((DOCS / page).read_text())
    assert found
    for name, body in found:
        method, path = name.split()
        answer = await gateway.client.request(method, path, json=json.loads(body))
        assert answer.is_success, (name, answer.text)


@pytest.mark.parametrize(
    ("page", "model"),
    [
        ("authentication.md", JwtAuth),
        ("authentication.md", ApiKeyAuth),
        ("cors.md", Cors),
        ("validation.md", Validation),
    ],
)
def test_every_field_of_a_policy_is_described(page: str, model: type[Model]) -> None:
    described = set(re.findall(r"^\| (\w+) \|", (DOCS / page).read_text(), re.M))
    assert {field.alias for field in model.model_fields.values()} <= described


@pytest.mark.anyio
async def test_the_example_of_a_health_check_works(gateway: Gateway) -> None:
    ((name, body),) = examples("health.md").items()
    method, path = name.split()
    answer = await gateway.client.request(method, path, json=json.loads(body))
    assert answer.is_success, answer.text


def test_every_field_of_a_health_check_is_described() -> None:
    described = set(re.findall(r"^\| (\w+) \|", (DOCS / "health.md").read_text(), re.M))
    assert {field.alias for field in HealthCheck.model_fields.values()} <= described


@pytest.mark.anyio
async def test_the_example_file_works(gateway: Gateway, tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(examples("configuration.md")["file"])
    await gateway.configuration.apply(path, prune=True, author="test")
    assert gateway.match("/users/1", host="api.example.com") == "1.0"
    assert gateway.match("/tier/7", host="any.example") == "1.0"


@pytest.mark.parametrize("model", [Route, Backend])
def test_every_field_is_described(model: type[Route | Backend]) -> None:
    section = (
        (DOCS / "configuration.md").read_text().partition(f"## {model.__name__}\n")[2].partition("\n## ")[0]
    )
    described = set(re.findall(r"\w+", " ".join(re.findall(r"^\| ([^|]+) \|", section, re.M))))
    assert {field.alias for field in model.model_fields.values()} <= described


def test_every_setting_is_described() -> None:
    text = (DOCS / "cli.md").read_text()
    options = {"--" + item.name.replace("_", "-") for item in fields(Settings)}
    variables = {"HOTSWAP_" + item.name.upper() for item in fields(Settings)}
    described = set(re.findall(r"--[a-z-]+", text)) | set(re.findall(r"HOTSWAP_[A-Z_]+", text))
    pairs = zip(sorted(options), sorted(variables), strict=True)
    assert [pair for pair in pairs if not described & set(pair)] == []
