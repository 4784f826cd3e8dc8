"""The admin API as an ASGI application."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from hotswap_proxy.errors import GatewayError, MethodNotAllowed, NotFound

from .apidocs import ApiDocs
from .context import AdminContext, NodeView
from .handlers import ENDPOINTS
from .middleware import AnswerHeaders
from .routing import Services, error_response, starlette_routes

__all__ = ["AdminContext", "NodeView", "create_app"]


def create_app(context: AdminContext) -> Starlette:
    """The API of one node. Reads or makes the token secret, so it raises what ``Tokens.open`` raises."""
    routes = starlette_routes(ENDPOINTS, Services(context))
    if context.settings.serves_api_docs:
        routes += ApiDocs().routes()
    app = Starlette(
        routes=routes,
        middleware=[Middleware(AnswerHeaders), Middleware(_NoSuchName)],
        exception_handlers={HTTPException: _not_routed},
    )
    app.router.redirect_slashes = False
    return app


class _NoSuchName:
    """No object has a slash or a NUL in its id. The router sees decoded paths: ``%2F`` would end an id,
    and PostgreSQL knows no text with NUL.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if any(sign in scope.get("raw_path", b"").lower() for sign in (b"%2f", b"%00")):
            request = Request(scope)
            answer = error_response(NotFound(f"there is no {scope['raw_path'].decode('latin-1')}"), request)
            await answer(scope, receive, send)
        else:
            await self._app(scope, receive, send)


async def _not_routed(request: Request, error: Exception) -> Response:
    """404 and 405 of the router, in the format of all errors."""
    assert isinstance(error, HTTPException)
    answer: GatewayError
    if error.status_code == 405:
        answer = MethodNotAllowed(f"{request.url.path} does not know {request.method}", headers=error.headers)
    else:
        answer = NotFound(f"there is no {request.url.path}")
    return error_response(answer, request)
