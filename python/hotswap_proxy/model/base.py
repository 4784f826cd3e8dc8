"""What all models share: strict types, camelCase on the wire, unknown fields refused."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, Any, Literal, LiteralString

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    GetJsonSchemaHandler,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, PydanticCustomError


class Model(BaseModel):
    """Strict, because ``"weight": "100"`` is a mistake to point out and not one to guess at."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=False,
    )

    def document(self) -> dict[str, Any]:
        """The object as it is stored and answered: camelCase, defaults filled in, absent options left out."""
        return self.model_dump(by_alias=True, exclude_none=True)


def problem(rule: LiteralString, message: str) -> PydanticCustomError:
    """A validation error whose ``rule`` reaches the API's ``details`` unchanged."""
    # The message is an argument because pydantic would read its braces, as in `/users/{id}`, as placeholders.
    return PydanticCustomError(rule, "{message}", {"message": message})


def told_as(rule: LiteralString, message: str) -> WrapValidator:
    """For a union of plain types: one sentence, where each of its members would have one and a path of its
    own.
    """

    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise problem(rule, message) from None

    return WrapValidator(check)


class InSchema:
    """Keywords that tell JSON Schema of a rule which a function checks: as far as it can be told."""

    def __init__(self, **keywords: Any) -> None:
        self._keywords = keywords

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(core), **self._keywords}


class DescribedBy:
    """That a document, checked later with what it is merged into, has the fields of ``model``."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._model = model

    def __get_pydantic_json_schema__(self, _: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler(self._model.__pydantic_core_schema__)
        return {key: value for key, value in schema.items() if key not in ("title", "description")}


def whole(pattern: re.Pattern[str]) -> InSchema:
    """That all of a text matches, as ``fullmatch`` has it."""
    return InSchema(pattern=f"^(?:{pattern.pattern})$")


# --- durations ------------------------------------------------------------------------------------

_SIMPLE = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)", re.ASCII)
_ISO = re.compile(r"P(?:(\d+)D)?(?:T(?=\d)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?", re.ASCII)
# The same two for JSON Schema, whose dialects do not all know lookaheads.
_SECONDS = r"[0-9]+(\.[0-9]+)?S"
_TIME = rf"T([0-9]+H([0-9]+M)?({_SECONDS})?|[0-9]+M({_SECONDS})?|{_SECONDS})"
DURATION_PATTERN = rf"^([0-9]+(\.[0-9]+)?(ms|s|m|h)|P([0-9]+D({_TIME})?|{_TIME}))$"
_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
MAX_DURATION_MS = 24 * 3_600_000


@lru_cache(maxsize=256)
def duration_ms(text: str) -> int:
    """``"250ms" "5s" "1m" "2h"`` or ISO 8601 (``"PT5M"``) → whole milliseconds; else ValueError."""
    if simple := _SIMPLE.fullmatch(text):
        return round(float(simple[1]) * _UNIT_MS[simple[2]])
    iso = _ISO.fullmatch(text)
    if iso is None or not any(iso.groups()):
        raise ValueError(f"not a duration: {text!r}; write 250ms, 5s, 1m, 2h or PT5M")
    days, hours, minutes, seconds = (float(part or 0) for part in iso.groups())
    return round((((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000)


def _check_duration(text: str) -> str:
    try:
        milliseconds = duration_ms(text)
    except ValueError as error:
        raise problem("duration", str(error)) from None
    if not 1 <= milliseconds <= MAX_DURATION_MS:
        raise problem("duration", f"{text!r} is not between 1ms and 24h")
    return text  # as it was given: "PT5M" is answered as "PT5M"


Duration = Annotated[
    str,
    StringConstraints(max_length=32),
    AfterValidator(_check_duration),
    InSchema(pattern=DURATION_PATTERN, examples=["250ms", "5s", "PT5M"]),
]

# What every reader of JSON takes for the same number (RFC 8259, section 6).
MAX_INTEGER = 2**53 - 1

# --- names ----------------------------------------------------------------------------------------

# Names become metric labels and header values, hence ASCII without control characters.
Name = Annotated[str, StringConstraints(min_length=1, max_length=120, pattern=r"^[!-~]([ -~]*[!-~])?$")]
Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,119}$")]
Version = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")]
Environment = Literal["Development", "QA", "Staging", "Production"]
