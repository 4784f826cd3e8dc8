"""The one way to read a JSON body, wherever it is read: the same mistakes get the same answers."""

from __future__ import annotations

from typing import Any

import orjson

from .errors import ValidationFailed


def json_object(body: bytes | bytearray) -> dict[str, Any]:
    """A body that must be a JSON object. ValidationFailed says what is wrong, and where."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ValidationFailed(
            f"the body is not JSON: {error.msg} (line {error.lineno} column {error.colno})"
        ) from None
    if not isinstance(document, dict):
        raise ValidationFailed("the body must be a JSON object")
    return document
