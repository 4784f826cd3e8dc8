"""The OpenAPI document: valid, complete, and what is served."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import conformance
import httpx
import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from hotswap_proxy.admin import apidocs, openapi, shapes
from hotswap_proxy.admin.handlers import ENDPOINTS
from hotswap_proxy.admin.routing import Endpoint
from hotswap_proxy.model import duration_ms
from hotswap_proxy.model.base import DURATION_PATTERN
from hotswap_proxy.settings import Settings
from tests.gateway import Gateway, anyio_backend, running

__all__ = ["anyio_backend"]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return conformance.document()


def test_it_is_valid(document: dict[str, Any]) -> None:
    validate(document, cls=OpenAPIV31SpecValidator)


def test_every_endpoint_says_what_it_answers() -> None:
    silent = [f"{each.method} {each.path}" for each in ENDPOINTS if not each.answers]
    assert not silent, f"no answers (a model of admin.shapes) in the rows of {silent}"


def test_every_reference_leads_somewhere_and_every_schema_is_used(document: dict[str, Any]) -> None:
    refs = set(re.findall(r'"\$ref": ?"#/components/schemas/([^"]+)"', _text(document)))
    assert refs == document["components"]["schemas"].keys()


def _text(document: Any) -> str:
    return json.dumps(document)


def test_every_object_in_an_answer_is_closed(document: dict[str, Any]) -> None:
    """Else a field that nobody has documented would go unnoticed."""
    open_ones = [
        name
        for name, schema in document["components"]["schemas"].items()
        if "properties" in schema and schema.get("additionalProperties") is not False
    ]
    assert open_ones == []


def test_operations_have_names_of_their_own(document: dict[str, Any]) -> None:
    operations = [op for item in document["paths"].values() for op in item.values() if isinstance(op, dict)]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names)) == len(ENDPOINTS)
    assert not [each for each in operations if each.get("deprecated")]


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda each: f"{each.method} {each.path}")
def test_roles_and_errors_follow_from_the_row(endpoint: Endpoint, document: dict[str, Any]) -> None:
    told = document["paths"][endpoint.path][endpoint.method.lower()]
    assert told["x-roles"] == sorted(endpoint.roles)
    assert (told.get("security") == []) == (not endpoint.roles)
    assert ("401" in told["responses"]) >= bool(endpoint.roles)
    assert ("404" in told["responses"]) >= ("{" in endpoint.path)
    assert ("415" in told["responses"]) == (endpoint.body is not None)
    names = {parameter["name"] for parameter in told.get("parameters", ())}
    assert ("If-Match" in names) == endpoint.conditional == ("412" in told["responses"])
    assert {field.alias for field in endpoint.query.model_fields.values()} <= names


def test_examples_fit_their_schemas(document: dict[str, Any]) -> None:
    checked = 0
    for path, item in document["paths"].items():
        for method, operation in item.items():
            content = operation.get("requestBody", {}).get("content", {}) if method != "parameters" else {}
            for media in content.values():
                if "example" in media:
                    schema = media["schema"] | {"components": document["components"]}
                    jsonschema_rs.validate(schema, media["example"])
                    checked += 1
                elif operation["requestBody"]["required"]:
                    pytest.fail(f"{method} {path} has no example of its body")
    assert checked > 10


@given(st.one_of(st.from_regex(DURATION_PATTERN, fullmatch=True), st.text(max_size=12)))
def test_the_pattern_of_durations_is_what_is_accepted(text: str) -> None:
    try:
        duration_ms(text)
    except ValueError:
        accepted = False
    else:
        accepted = True
    assert accepted == bool(re.fullmatch(DURATION_PATTERN.strip("^$"), text, re.ASCII))


def test_shapes_are_not_loaded_by_the_api() -> None:
    """They are for the document alone, which another process makes."""
    loaded = "[name for name in sys.modules if 'shapes' in name or 'flask' in name]"
    program = f"import sys, hotswap_proxy.admin.app; print({loaded})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert shapes.__name__ == "hotswap_proxy.admin.shapes"


# --- served ---------------------------------------------------------------------------------------


@pytest.fixture
async def gateway(tmp_path: Path) -> Any:
    async with running(tmp_path) as started:
        yield started


@pytest.mark.anyio
async def test_it_is_served_and_kept(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = _plain(gateway)
    answer = await plain.get("/openapi.json")
    assert answer.json() == openapi.build()
    assert answer.headers["content-type"] == "application/json"
    monkeypatch.setattr(apidocs, "COMMAND", ("/nix",))  # not made a second time
    again = await plain.get("/openapi.json", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert (await plain.get("/openapi.json", headers={"if-none-match": '"x"'})).status_code == 200


@pytest.mark.anyio
async def test_a_document_that_cannot_be_made_is_an_error(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apidocs, "COMMAND", ("/nix",))
    answer = await _plain(gateway).get("/openapi.json")
    assert answer.status_code == 503 and answer.json()["error"]["code"] == "SERVICE_UNAVAILABLE"
    monkeypatch.setattr(apidocs, "COMMAND", (sys.executable, "-c", "raise SystemExit('no')"))
    assert (await _plain(gateway).get("/openapi.json")).status_code == 503


@pytest.mark.anyio
async def test_the_page_takes_everything_from_here(gateway: Gateway) -> None:
    plain = _plain(gateway)
    page = await plain.get("/swagger")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self';" in policy and "unsafe-eval" not in policy
    links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(links) == 4 and not [link for link in links if ":" in link or link.startswith("/")]
    for link in links:
        file = await plain.get(f"/{link}")
        assert file.status_code == 200 and file.content, link
        assert file.headers["x-content-type-options"] == "nosniff"
        kind = {"css": "text/css", "js": "text/javascript", "png": "image/png"}[link.rpartition(".")[2]]
        assert file.headers["content-type"].startswith(kind)
        kept = {"if-none-match": file.headers["etag"]}
        assert (await plain.get(f"/{link}", headers=kept)).status_code == 304
    start = (await plain.get("/swagger/start.js")).text
    assert '"openapi.json"' in start and "validatorUrl: null" in start and "://" not in start


@pytest.mark.anyio
@pytest.mark.parametrize(
    "name", ["index.html", "swagger-ui.js", "..%2f__init__.py", "../__init__.py", "%00", ""]
)
async def test_nothing_else_of_the_package_is_served(gateway: Gateway, name: str) -> None:
    assert (await _plain(gateway).get(f"/swagger/{name}")).status_code == 404


@pytest.mark.anyio
async def test_it_can_be_off(tmp_path: Path) -> None:
    async with running(tmp_path, api_docs="off") as started:
        for path in ("/openapi.json", "/swagger", "/swagger/start.js"):
            assert (await _plain(started).get(path)).status_code == 404


@pytest.mark.parametrize(
    ("environment", "given", "served"),
    [
        ("Development", None, True),
        ("Staging", None, True),
        ("Production", None, False),
        ("Production", "on", True),
        ("Development", "off", False),
    ],
)
def test_in_production_it_has_to_be_asked_for(environment: Any, given: Any, served: bool) -> None:
    assert Settings(environment=environment, api_docs=given).serves_api_docs is served


def _plain(gateway: Gateway) -> httpx.AsyncClient:
    """Without login, and without holding the answers against the document."""
    return httpx.AsyncClient(transport=gateway.client._transport, base_url="http://admin")


def test_the_reference_pages_are_current() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/api_reference.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
