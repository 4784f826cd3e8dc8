"""Spans of the admin API: one for each call, and one inside it for what the call changes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.types import Scope

from hotswap_proxy.observe.tracing import current
from hotswap_proxy.observe.tracing.current import Span, Value

if TYPE_CHECKING:
    from .routing import Endpoint

# Asked every few seconds by machines; nobody looks for the trace of it.
_QUIET = frozenset({"/metrics", "/api/v1/gateway/health"})
_ROUTES = "/api/v1/gateway/routes"
# What changes a configuration, by the names that the work has in traces.
WORK = {
    ("POST", _ROUTES): "config.create",
    ("PUT", f"{_ROUTES}/{{id}}"): "config.version.upload",
    ("POST", f"{_ROUTES}/{{id}}/versions"): "config.version.upload",
    ("POST", f"{_ROUTES}/{{id}}/rollback"): "config.rollback",
    ("POST", "/api/v1/gateway/config/apply"): "config.apply",
    ("POST", "/api/v1/gateway/health-checks"): "config.health.check",
    ("POST", "/api/v1/gateway/deployments"): "config.deploy.create",
    ("POST", "/api/v1/gateway/deployments/{id}/rollback"): "config.rollback",
}


@contextlib.contextmanager
def traced(scope: Scope) -> Iterator[tuple[Span, str | None]]:
    """The span of a call and its trace id; None where calls are not traced."""
    if scope["path"] in _QUIET:
        yield current.NOTHING, None
        return
    method = scope["method"]
    attributes: dict[str, Value] = {
        "http.request.method": method,
        "url.path": scope["path"],
        "url.scheme": scope["scheme"],
        "network.protocol.version": scope["http_version"],
    }
    if scope.get("client"):
        attributes["client.address"] = scope["client"][0]
    headers = Headers(scope=scope)
    if agent := headers.get("user-agent"):
        attributes["user_agent.original"] = agent
    with current.call(method, attributes, _single(headers)) as (span, trace_id):
        scope["span"] = span
        yield span, trace_id


def answered(span: Span, status: int) -> None:
    span.note("http.response.status_code", status)
    if status >= 500:
        span.fail(str(status))


@contextlib.contextmanager
def work(scope: Scope, endpoint: Endpoint) -> Iterator[None]:
    """While the handler of an endpoint is at work."""
    span: Span = scope.get("span", current.NOTHING)
    span.rename(f"{endpoint.method} {endpoint.path}")
    span.note("http.route", endpoint.path)
    name = WORK.get((endpoint.method, endpoint.path))
    if name is None:
        yield
        return
    with current.span(name):
        yield


def _single(headers: Headers) -> dict[str, str]:
    """Of several ``traceparent`` none is right."""
    found = dict(headers.items())
    if len(headers.getlist("traceparent")) > 1:
        del found["traceparent"]
    return found
