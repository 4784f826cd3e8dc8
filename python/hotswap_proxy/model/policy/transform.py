"""Transformations: what a route changes in requests and answers. The rules are the core's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, LiteralString

from pydantic import AfterValidator, Field, field_validator

from hotswap_proxy.model.base import Model, problem

MAX_FIELDS = 64

Value = Annotated[str, Field(max_length=1024)]


def _ask(
    rule: LiteralString, check: Callable[..., None], *arguments: Any, told: str = "", **keywords: Any
) -> None:
    try:
        check(*arguments, **keywords)
    except ValueError as error:
        raise problem(rule, f"{told}{error}") from None


def _check_rewrite(rule: str) -> str:
    from hotswap_proxy._core import check_rewrite

    _ask("rewrite_path", check_rewrite, rule)
    return rule


def _folded(name: str) -> str:
    """CGI and WSGI backends cannot tell ``_`` from ``-``."""
    return name.lower().replace("_", "-")


class _Side(Model):
    """``addHeaders`` replaces what the sender has under a name, but for Set-Cookie."""

    add_headers: dict[str, Value] | None = Field(
        None,
        max_length=MAX_FIELDS,
        description="name → value; variables: ${requestId} ${clientIp} ${routeName} ${backendName} "
        "${traceId} ${method} ${path} ${header.<Name>} ${param.<name>}, in responses ${latencyMs}",
    )
    remove_headers: list[str] | None = Field(None, max_length=MAX_FIELDS)

    @field_validator("add_headers")
    @classmethod
    def _may_add(cls, headers: dict[str, str] | None) -> dict[str, str] | None:
        from hotswap_proxy._core import check_header_template

        response = cls is ResponseChange
        _check_names(headers or (), add=True, response=response)
        for name, value in (headers or {}).items():
            _ask("header_value", check_header_template, value, told=f"{name}: ", response=response)
        return headers

    @field_validator("remove_headers")
    @classmethod
    def _may_remove(cls, names: list[str] | None) -> list[str] | None:
        _check_names(names or (), add=False, response=cls is ResponseChange)
        return names


def _check_names(names: Any, *, add: bool, response: bool) -> None:
    from hotswap_proxy._core import check_header_change

    seen: set[str] = set()
    for name in names:
        _ask("header_name", check_header_change, name, add=add, response=response)
        if name.lower() in seen:
            raise problem("header_name", f"{name} is given twice")
        seen.add(name.lower())


class RequestChange(_Side):
    rewrite_path: Annotated[str, Field(max_length=1100), AfterValidator(_check_rewrite)] | None = Field(
        None, description="<regex> -> <replacement with $1>"
    )


class ResponseChange(_Side):
    pass


class Transformations(Model):
    """Applied in the order remove, add, rewrite."""

    request: RequestChange | None = None
    response: ResponseChange | None = None

    def check_route(self, pattern: str | None, *, cors: bool, identity: str | None) -> None:
        """What depends on the other fields of the route; ``pattern`` None: not known."""
        from hotswap_proxy._core import check_template_parameters

        for side, name, value in self._added():
            told = f"{side}.addHeaders.{name}: "
            if pattern is not None:
                _ask("parameter", check_template_parameters, value, pattern, told=told)
            if cors and side == "response" and name.lower().startswith("access-control-"):
                raise problem("cors", f"{told}this header is written by cors")
            if identity and side == "request" and _folded(name) == _folded(identity):
                raise problem("identity", f"{told}this header is written by auth")

    def _added(self) -> Iterator[tuple[str, str, str]]:
        for side in ("request", "response"):
            change = getattr(self, side)
            for name, value in ((change and change.add_headers) or {}).items():
                yield side, name, value
