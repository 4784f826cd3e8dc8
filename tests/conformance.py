"""Holds answers of the admin API against the OpenAPI document: status, media type, headers and schema."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import httpx
import jsonschema_rs

from hotswap_proxy.admin.openapi import build

PARAMETER = re.compile(r"\{(\w+)\}")
# What the router, and not an endpoint, answers.
UNROUTED = (404, 405)


@cache
def document() -> dict[str, Any]:
    return build()


@cache
def _paths() -> list[tuple[re.Pattern[str], str]]:
    """Longest first, and those without parameters before those with."""
    ordered = sorted(document()["paths"], key=lambda path: (path.count("{"), -len(path)))
    return [(re.compile(PARAMETER.sub("[^/]+", path) + "$"), path) for path in ordered]


def operation(method: str, path: str) -> tuple[str, str] | None:
    """(method, path as documented) of a call, or None."""
    for pattern, documented in _paths():
        if pattern.match(path):
            found = method.lower() if method.lower() in document()["paths"][documented] else None
            found = "get" if method == "HEAD" and "get" in document()["paths"][documented] else found
            return (found, documented) if found else None
    return None


@cache
def _validator(method: str, path: str, status: str) -> Any:
    responses = document()["paths"][path][method]["responses"]
    told = resolved(responses[status])
    schema = told["content"]["application/json"]["schema"]
    return jsonschema_rs.Draft202012Validator(
        schema | {"components": document()["components"]}, validate_formats=True
    )


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        found: Any = document()
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema


def problems(method: str, path: str, answer: httpx.Response) -> list[str]:
    """What of an answer the document does not say."""
    known = operation(method, path)
    status = str(answer.status_code)
    if known is None:
        return [] if answer.status_code in (*UNROUTED, 503) else [f"{method} {path} is not documented"]
    verb, documented = known
    where = f"{method} {documented} → {status}"
    responses = document()["paths"][documented][verb]["responses"]
    if status not in responses:
        # A path that the router does not know, as one with %2F, has the form of one that it does.
        return [] if status == "404" else [f"{where} is not documented"]
    told = resolved(responses[status])
    content = told.get("content", {})
    found = [
        f"{where}: header {name} is missing"
        for name in told.get("headers", {})
        if name != "ETag" and name.lower() not in answer.headers
    ]
    if "content" not in told:
        return found + ([f"{where}: there is a body"] if answer.content else [])
    if answer.headers["content-type"] not in content:
        return [*found, f"{where}: {answer.headers['content-type']} is not documented"]
    if method == "HEAD" or "application/json" not in content:
        return found
    errors = _validator(verb, documented, status).iter_errors(answer.json())
    return found + [f"{where}: {error.instance_path}: {error.message[:1500]}" for error in errors]
