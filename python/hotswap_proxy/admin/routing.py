"""The one table of endpoints, and the way of a call through it: who → may they → what → handler → JSON."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from hotswap_proxy.errors import (
    Forbidden,
    GatewayError,
    PayloadTooLarge,
    UnsupportedMediaType,
    ValidationFailed,
    from_pydantic,
)
from hotswap_proxy.jsonbody import json_object
from hotswap_proxy.model import Model
from hotswap_proxy.observe.structured import caller
from hotswap_proxy.settings import Settings
from hotswap_proxy.store import Author
from hotswap_proxy.store.times import now
from hotswap_proxy.store.users import Role, User

from .context import AdminContext
from .identity import Identities
from .limits import LoginLimits
from .models import Query
from .quotas import Quotas
from .streaming import streamed
from .tokens import Tokens
from .tracing import work
from .trail import Trail

log = logging.getLogger(__name__)

MAX_BODY = 1024 * 1024
MAX_FILE_BODY = 64 * 1024 * 1024  # a whole configuration; 10,000 routes are some 5 MB

ADMIN: frozenset[Role] = frozenset({"Admin"})
ADMIN_OPERATOR: frozenset[Role] = frozenset({"Admin", "Operator"})
EVERYONE: frozenset[Role] = frozenset({"Admin", "Operator", "Developer", "Viewer"})
PUBLIC: frozenset[Role] = frozenset()


class Services:
    """What handlers need besides the context; one per app."""

    def __init__(self, context: AdminContext) -> None:
        self.context = context
        self.tokens = Tokens.open(context.settings)
        self.identities = Identities(context.store, self.tokens)
        self.trail = Trail(context.store)
        self.quotas = Quotas(context.settings)
        self.logins = LoginLimits()
        self.verifying = asyncio.Lock()


@dataclass(slots=True)
class Call:
    """One call, parsed and authorised."""

    services: Services
    path: dict[str, str]
    author: Author
    user: User | None = None  # with the role that he has in this call
    query: Any = None  # an instance of the endpoint's query model
    body: Any = None  # an instance of the endpoint's body model, or what ``raw`` or ``unread`` says
    if_match: str | None = None
    accept: str = ""
    accept_encoding: str = ""

    @property
    def context(self) -> AdminContext:
        return self.services.context


@dataclass(slots=True)
class Answer:
    """What a handler returns. ``body`` becomes JSON; bytes are sent as they are, those of an
    iterator as they come.
    """

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    media_type: str = "application/json"


Handler = Callable[[Call], Awaitable[Answer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One row of the table. An empty ``roles`` is public.

    ``answers`` and ``errors`` are what the call can be answered with, for the OpenAPI document: of an answer
    the name of its model in ``admin.shapes`` ("" without a body, "A | B" for one of two), of an error when it
    comes. By name, because the models are loaded for the document only. Errors that follow from the rest of
    the row, as 401 does from ``roles``, are not repeated here; see ``openapi``.
    """

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    handler: Handler
    roles: frozenset[Role]
    summary: str
    is_public: Callable[[Settings], bool] | None = None  # for those whose ``roles`` a setting can lift
    answers: Mapping[int, str] = field(default_factory=dict)
    errors: Mapping[int, str] = field(default_factory=dict)
    query: type[Query] = Query
    body: type[Model] | None = None
    example: Mapping[str, Any] | None = None  # of a body
    partial: bool = False  # of ``body`` the fields that change, as PUT takes them
    conditional: bool = False  # heeds If-Match
    raw: bool = (
        False  # the JSON object is validated later, by who knows the node's rules and the stored object
    )
    unread: bool = False  # not even parsed: bytes, for another process
    max_body: int = MAX_BODY
    optional_body: bool = False  # no body at all means {}
    media_types: tuple[str, ...] = ("application/json",)  # of the answer


def starlette_routes(endpoints: Iterable[Endpoint], services: Services) -> list[Route]:
    """One Starlette route per path, so that a wrong method is answered with all that are right."""
    paths: dict[str, dict[str, Endpoint]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method] = endpoint
    return [
        Route(path, _dispatcher(methods, services), methods=list(methods)) for path, methods in paths.items()
    ]


def _dispatcher(methods: dict[str, Endpoint], services: Services) -> Callable[[Request], Awaitable[Response]]:
    async def dispatch(request: Request) -> Response:
        endpoint = methods["GET" if request.method == "HEAD" else request.method]
        client = request.client.host if request.client else None
        author = Author("anonymous", None, trace_id(request), client)
        call = Call(services, dict(request.path_params), author)
        try:
            with work(request.scope, endpoint):
                await _receive(call, request, endpoint)
                answer = await endpoint.handler(call)
                if isinstance(answer.body, Iterator):
                    return await streamed(answer, answer.body)
                return respond(answer)
        except GatewayError as error:
            if error.status == 403 and call.user is not None:
                await services.trail.denied(call.author, call.user.role, request.method, request.url.path)
            if error.status >= 500:
                log.warning("%s %s: %s", request.method, request.url.path, error)
            return error_response(error, request)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it
        except Exception:
            log.exception("%s %s failed", request.method, request.url.path)
            return error_response(GatewayError("internal error; the log has the trace id"), request)

    return dispatch


async def _receive(call: Call, request: Request, endpoint: Endpoint) -> None:
    """Find out who calls, whether they may, and what they want."""
    services = call.services
    is_public = endpoint.is_public is not None and endpoint.is_public(services.context.settings)
    if endpoint.roles and not is_public:
        call.user, key_id = await services.identities.of(request)
        call.author = call.author._replace(
            username=call.user.username, user_id=call.user.user_id, api_key_id=key_id
        )
        caller(call.user.username)
        if call.user.role not in endpoint.roles:
            raise Forbidden(f"this needs one of the roles {', '.join(sorted(endpoint.roles))}")
        services.quotas.count(call.user.user_id, endpoint.method, endpoint.path)
    call.query = _read_query(request, endpoint)
    if endpoint.conditional:
        call.if_match = request.headers.get("if-match")
    call.accept = ",".join(request.headers.getlist("accept"))
    call.accept_encoding = ",".join(request.headers.getlist("accept-encoding"))
    if endpoint.body is not None:
        call.body = await _read_body(request, endpoint.max_body, optional=endpoint.optional_body)
        if not endpoint.unread:
            document = json_object(call.body)
            call.body = document if endpoint.raw else _parse(endpoint.body, document)


def _read_query(request: Request, endpoint: Endpoint) -> Query:
    items = request.query_params.multi_items()
    if len(dict(items)) != len(items):
        raise ValidationFailed("a query parameter is given twice")
    try:
        return endpoint.query.model_validate(dict(items))
    except ValidationError as error:
        raise from_pydantic(error) from None


def _parse(model: type[Model], document: Any) -> Model:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise from_pydantic(error) from None


async def _read_body(request: Request, limit: int, *, optional: bool = False) -> bytearray:
    headers = request.headers
    if optional and headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
        return bytearray(b"{}")
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMediaType(f"send application/json, not {media_type or 'a body without a type'}")
    declared = request.headers.get("content-length", "0")
    too_large = PayloadTooLarge(f"the body is larger than {limit} bytes")
    if declared.isdigit() and int(declared) > limit:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large
    return body


def respond(answer: Answer) -> Response:
    if answer.body is None:
        return Response(status_code=answer.status, headers=answer.headers)
    body = answer.body if isinstance(answer.body, bytes) else orjson.dumps(answer.body)
    return Response(body, answer.status, answer.headers, answer.media_type)


def trace_id(request: Request) -> str:
    return str(request.scope.get("trace_id", ""))


def error_response(error: GatewayError, request: Request) -> Response:
    body = {
        "error": {
            "code": error.code,
            "message": error.message,
            "details": [detail._asdict() for detail in error.details],
            "traceId": trace_id(request),
            "timestamp": now(),
        }
    }
    return respond(Answer(body, error.status, error.headers))
