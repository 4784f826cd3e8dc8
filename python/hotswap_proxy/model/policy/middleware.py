"""Middleware: functions of the operator's that a route's requests go through."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo

from hotswap_proxy.model.base import problem
from hotswap_proxy.model.urls import UrlRules


def _check_name(name: str, info: ValidationInfo) -> str:
    rules = info.context if isinstance(info.context, UrlRules) else UrlRules()
    if name not in rules.middleware:
        known = ", ".join(sorted(rules.middleware)) or "none"
        raise problem(
            "middleware", f"this node has no middleware {name!r}; it was started with: {known} (--middleware)"
        )
    return name


def _check_once(names: list[str]) -> list[str]:
    if len(set(names)) != len(names):
        raise problem("middleware", "a middleware is given twice")
    return names


Middleware = Annotated[
    list[Annotated[str, AfterValidator(_check_name)]],
    Field(max_length=16, description="names of the node's middleware, the outermost first"),
    AfterValidator(_check_once),
]
