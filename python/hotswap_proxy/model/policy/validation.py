"""Request validation: what a request has to look like before a backend sees it."""

from __future__ import annotations

import re
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, Field

from hotswap_proxy.model.base import Model, problem, whole

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2
_MEDIA_RANGE = re.compile(r"\*/\*|[!#$%&'+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+")
MAX_SCHEMA = 256 * 1024


def _check_name(name: str) -> str:
    if not _TOKEN.fullmatch(name):
        raise problem("header_name", f"{name!r} is not an HTTP header name")
    return name


def _check_range(text: str) -> str:
    if not _MEDIA_RANGE.fullmatch(text):
        raise problem("media_type", f"{text!r} is not type/subtype or type/*, without parameters")
    return text


def _check_size(schema: dict[str, Any]) -> dict[str, Any]:
    """What a schema may say is checked by the core, which will hold bodies against it."""
    if len(orjson.dumps(schema)) > MAX_SCHEMA:
        raise problem("json_schema", f"the schema has more than {MAX_SCHEMA} bytes as JSON")
    return schema


HeaderName = Annotated[str, Field(max_length=128), AfterValidator(_check_name), whole(_TOKEN)]
MediaRange = Annotated[str, Field(max_length=128), AfterValidator(_check_range), whole(_MEDIA_RANGE)]


class Validation(Model):
    content_types: list[MediaRange] | None = Field(
        None, min_length=1, max_length=64, description="of a body: type/subtype or type/*; others are a 415"
    )
    max_body_size: int | None = Field(
        None, ge=1, le=2**63 - 1, description="bytes; more is a 413. The route's own limit holds as well"
    )
    required_headers: list[HeaderName] | None = Field(None, min_length=1, max_length=64)
    required_query: list[Annotated[str, Field(min_length=1, max_length=128)]] | None = Field(
        None, min_length=1, max_length=64, description="names of query parameters"
    )
    json_schema: Annotated[dict[str, Any], AfterValidator(_check_size)] | None = Field(
        None, description="JSON Schema (2020-12) of a JSON body up to 1 MB; references stay within it"
    )
