"""The OpenAPI 3.1 document, from the table of endpoints and the models. The rules are theirs; here they are
put into OpenAPI's form.

No node imports this, only ``hotswap-proxy openapi``: the models of the answers and what pydantic makes of
them would cost a control process some megabytes for its whole life. See ``apidocs``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any, get_args

import orjson
from pydantic import BaseModel

from hotswap_proxy import __version__, errors
from hotswap_proxy.control.edits import ENTITY_TAGS
from hotswap_proxy.store.users import Role

from . import shapes
from .handlers import ENDPOINTS
from .openapi_schemas import REF, Mode, change_of, of_models, query_parameters
from .quotas import kind_of
from .routing import EVERYONE, Endpoint

Document = dict[str, Any]

ROLES = get_args(Role)
JSON = ("application/json",)
CHANGE = "Change"  # what is behind the name of a schema of which any part may be given

_CODES = {
    kind.status: kind.code
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.GatewayError)
}
_LOGIN: list[Document] = [{"token": []}, {"apiKey": []}]  # one of them
_IDS = {  # of what a POST has made, in its answer
    "routes": "routeId",
    "backends": "backendId",
    "deployments": "deploymentId",
    "users": "userId",
    "api-keys": "keyId",
}
_WHEN = {
    400: "The body or a query parameter breaks a rule; `details` names field and rule.",
    401: "Not logged in, or the token or API key is not valid.",
    403: "The role does not allow it.",
    404: "There is no such object.",
    412: "The object was changed meanwhile; `ETag` and `If-Match` differ.",
    413: "The body is too large.",
    415: "The body is not `application/json`.",
    429: "More calls in a minute than one user may make (in Production, or as configured).",
    500: "A bug; the log has the trace id.",
    503: "The store is locked, full, damaged or away. Nothing was changed.",
}
_HEADERS = {
    "X-Request-ID": {
        "description": "The caller's own, if it was plausible, or one that was made; `traceId` of errors.",
        "schema": {"type": "string"},
    },
    "ETag": {
        "description": "For `If-Match`: a change is refused with 412 if the object has another one by then.",
        "schema": {"type": "string"},
    },
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string", "pattern": "^[0-9]+$"}},
    "WWW-Authenticate": {"description": "How to log in.", "schema": {"type": "string"}},
}
_DESCRIPTION = """\
Log in with `POST /api/v1/authentication/login` and send the token, or send an API key.

JSON is camelCase; times are RFC 3339 in UTC; durations are written as `250ms`, `5s`, `1m`, `2h` or ISO 8601
(`PT5M`) and answered as they were given; whole numbers have no fraction (`5`, not `5.0`). Unknown fields and
query parameters are errors. Lists have pages: `limit`, `offset`, and in the answer `hasMore`, `nextOffset`.
With `?dryRun=true` a write is checked in full and answers what it would change. Routes and backends have an
`ETag`, which a write may send back as `If-Match`.

A body that fits its schema may still be refused with 400 where fields have to fit each other or the node:
`rule` in the answer's `details` tells which rule it was.
"""


def build() -> Document:
    """The whole document."""
    return _Builder(ENDPOINTS).document()


def operation_id(endpoint: Endpoint) -> str:
    head, *tail = endpoint.handler.__name__.split("_")
    return head + "".join(word.capitalize() for word in tail)


def tag(path: str) -> str:
    """``/api/v1/gateway/routes/{id}`` → ``routes``."""
    parts = path.strip("/").removeprefix("api/v1/").split("/")
    return parts[1] if parts[0] == "gateway" and len(parts) > 1 else parts[0]


def statuses(endpoint: Endpoint) -> dict[int, str]:
    """The errors that a call can be answered with → when."""
    found = {400, 500}
    if endpoint.roles:
        found |= {401, 503}
    if endpoint.roles and endpoint.roles != EVERYONE:
        found |= {403}
    if "{" in endpoint.path:
        found |= {404}
    if endpoint.conditional:
        found |= {412}
    if endpoint.body is not None:
        found |= {413, 415, 503}
    if endpoint.roles and kind_of(endpoint.method, endpoint.path):
        found |= {429}
    found -= endpoint.answers.keys()
    told = {status: _WHEN[status] for status in found} | dict(endpoint.errors)
    return dict(sorted(told.items()))


class _Builder:
    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self._endpoints = list(endpoints)
        self._refs: dict[tuple[str, Mode], Document]
        self._schemas = self._make_schemas()

    def document(self) -> Document:
        paths: dict[str, Document] = {}
        for endpoint in self._endpoints:
            paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = self._operation(endpoint)
        for path, item in paths.items():
            parameters = _path_parameters(path)
            if parameters:
                item["parameters"] = parameters
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "hotswap-proxy admin API",
                "version": __version__,
                "description": _DESCRIPTION,
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/", "description": "this node"}],
            "tags": [{"name": name} for name in dict.fromkeys(map(tag, paths))],
            "security": _LOGIN,
            "paths": paths,
            "components": {
                "schemas": self._schemas,
                "headers": _HEADERS,
                "responses": _error_responses(),
                "securitySchemes": {
                    "token": {
                        "type": "http",
                        "scheme": "bearer",
                        "description": "A token of `POST /api/v1/authentication/login`, or an API key.",
                    },
                    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                },
            },
        }

    # --- schemas ---------------------------------------------------------------------------------------

    def _make_schemas(self) -> Document:
        """All models, each once. Bodies are what is accepted, answers what is written."""
        wanted: dict[tuple[type[BaseModel], Mode], None] = {(shapes.ErrorAnswer, "serialization"): None}
        for endpoint in self._endpoints:
            if endpoint.body is not None:
                wanted[endpoint.body, "validation"] = None
            for model in _models(endpoint):
                wanted[model, "serialization"] = None
        self._refs, schemas = of_models(wanted)
        for endpoint in self._endpoints:
            if endpoint.partial and endpoint.body is not None:
                name = self._refs[endpoint.body.__name__, "validation"]["$ref"].removeprefix(REF)
                change_of(schemas, name, CHANGE)
        return dict(sorted(schemas.items()))

    def _body(self, endpoint: Endpoint) -> Document:
        assert endpoint.body is not None
        ref = self._refs[endpoint.body.__name__, "validation"]
        if endpoint.partial:
            ref = {"$ref": f"{ref['$ref']}{CHANGE}"}
        content: Document = {"schema": ref}
        if endpoint.example is not None:
            content["example"] = endpoint.example
        return {"required": not endpoint.optional_body, "content": {"application/json": content}}

    # --- operations ------------------------------------------------------------------------------------

    def _operation(self, endpoint: Endpoint) -> Document:
        operation: Document = {
            "operationId": operation_id(endpoint),
            "summary": endpoint.summary,
            "description": _who(endpoint),
            "tags": [tag(endpoint.path)],
            "x-roles": sorted(endpoint.roles),
        }
        parameters = query_parameters(endpoint.query) + ([_IF_MATCH] if endpoint.conditional else [])
        if parameters:
            operation["parameters"] = parameters
        if endpoint.body is not None:
            operation["requestBody"] = self._body(endpoint)
        if not endpoint.roles:
            operation["security"] = []
        elif endpoint.is_public is not None:
            operation["security"] = [{}, *_LOGIN]  # with or without
        answers = {str(status): self._answer(endpoint, status) for status in sorted(endpoint.answers)}
        if links := self._links(endpoint):
            answers["201"]["links"] = links
        operation["responses"] = answers | {
            str(status): _error(status, told) for status, told in statuses(endpoint).items()
        }
        return operation

    def _links(self, made_by: Endpoint) -> Document:
        """What can be called next with the object that a call has made."""
        id_field = _IDS.get(made_by.path.rpartition("/")[2])
        links: Document = {}
        for endpoint in self._endpoints if 201 in made_by.answers and id_field else ():
            if endpoint.path.startswith(f"{made_by.path}/{{id}}") and endpoint.path.count("{") == 1:
                name = operation_id(endpoint)
                links[name] = {"operationId": name, "parameters": {"id": f"$response.body#/{id_field}"}}
        return links

    def _answer(self, endpoint: Endpoint, status: int) -> Document:
        headers = {"X-Request-ID": _header("X-Request-ID")}
        answer: Document = {"description": _ANSWERED[status], "headers": headers}
        if endpoint.media_types != JSON:
            answer["content"] = {each: {"schema": {"type": "string"}} for each in endpoint.media_types}
            return answer
        models = list(_models(endpoint, status))
        if not models:
            return answer
        found = [self._refs[model.__name__, "serialization"] for model in models]
        answer["content"] = {
            "application/json": {"schema": found[0] if len(found) == 1 else {"anyOf": found}}
        }
        if any(getattr(model, "ETAG", False) for model in models):
            headers["ETag"] = _header("ETag")
        return answer


_ANSWERED = {
    200: "Done.",
    201: "Made.",
    204: "Done; there is no body.",
    503: "The node is not ready.",
}
_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "description": "An ETag, several, or `*`; unless one is that of the object, the answer is 412.",
    "schema": {"type": "string", "pattern": f"^{ENTITY_TAGS.pattern}$"},
}


def _models(endpoint: Endpoint, status: int | None = None) -> Iterator[type[BaseModel]]:
    if endpoint.media_types != JSON:
        return
    for each, names in endpoint.answers.items():
        if status in (None, each):
            for name in filter(None, names.split(" | ")):
                yield getattr(shapes, name)


def _who(endpoint: Endpoint) -> str:
    if not endpoint.roles:
        return "Public: nobody has to log in."
    if endpoint.is_public is not None:
        return "Public, or for any role, as the node is set up."
    names = "any" if endpoint.roles == EVERYONE else ", ".join(r for r in ROLES if r in endpoint.roles)
    return f"Roles: {names}."


def _header(name: str) -> Document:
    return {"$ref": f"#/components/headers/{name}"}


def _path_parameters(path: str) -> list[Document]:
    return [
        {
            "name": part[1:-1],
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1, "pattern": r"^[^/\\\x00-\x1f\x7f]+$"},
        }
        for part in path.split("/")
        if part.startswith("{")
    ]


def _error_responses() -> Document:
    told = _WHEN | {409: "It conflicts with what there is."}
    return {_CODES[status]: _error_response(status, when) for status, when in sorted(told.items())}


def _error(status: int, when: str) -> Document:
    if _WHEN.get(status) == when:
        return {"$ref": f"#/components/responses/{_CODES[status]}"}
    return _error_response(status, when)


def _error_response(status: int, when: str) -> Document:
    headers = {"X-Request-ID": _header("X-Request-ID")}
    if status == 429:
        headers["Retry-After"] = _header("Retry-After")
    if status == 401:
        headers["WWW-Authenticate"] = _header("WWW-Authenticate")
    example = {
        "error": {
            "code": _CODES[status],
            "message": when.rstrip(".").replace("`", ""),
            "details": [],
            "traceId": "5f0c2b6de0c14c3f9d3f1f1b7c2a9e11",
            "timestamp": "2030-01-31T12:00:00.000000Z",
        }
    }
    content = {"schema": {"$ref": f"{REF}ErrorAnswer"}, "example": example}
    return {"description": when, "headers": headers, "content": {"application/json": content}}


if __name__ == "__main__":
    sys.stdout.buffer.write(orjson.dumps(build()))
