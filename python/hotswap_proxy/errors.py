"""Errors that know what to answer: HTTP status, error code and the fields they are about.

Whoever finds a problem raises one of these; the admin API and the CLI only print them. Nothing else in the
package maps exceptions to statuses.
"""

# ruff: noqa: N818  (these read as what happened: `raise NotFound`, `raise Conflict`)

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails


class Detail(NamedTuple):
    """One problem: the field's path in the document, the rule it breaks, and the sentence for a human."""

    field: str
    rule: str
    message: str


class GatewayError(Exception):
    """Base of all errors with an answer. ``status`` and ``code`` are those of the API's error table."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "INTERNAL_ERROR"

    def __init__(
        self, message: str, details: Iterable[Detail] = (), *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = list(details)
        self.headers = dict(headers or {})


class ValidationFailed(GatewayError):
    status, code = 400, "VALIDATION_ERROR"

    @classmethod
    def of(cls, details: Sequence[Detail]) -> ValidationFailed:
        """The error for one or more field problems; its message is the first of them."""
        first = details[0]
        more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
        return cls(f"{first.field or 'body'}: {first.message}{more}", details)


class Unauthorized(GatewayError):
    status, code = 401, "UNAUTHORIZED"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"www-authenticate": "Bearer"})


class Forbidden(GatewayError):
    status, code = 403, "FORBIDDEN"


class NotFound(GatewayError):
    status, code = 404, "NOT_FOUND"


class MethodNotAllowed(GatewayError):
    status, code = 405, "METHOD_NOT_ALLOWED"


class Conflict(GatewayError):
    status, code = 409, "CONFLICT"


class PreconditionFailed(GatewayError):
    status, code = 412, "PRECONDITION_FAILED"


class PayloadTooLarge(GatewayError):
    status, code = 413, "PAYLOAD_TOO_LARGE"


class UnsupportedMediaType(GatewayError):
    status, code = 415, "UNSUPPORTED_MEDIA_TYPE"


class RateLimited(GatewayError):
    status, code = 429, "RATE_LIMIT_EXCEEDED"

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message, headers={"retry-after": str(retry_after)})


class Unavailable(GatewayError):
    status, code = 503, "SERVICE_UNAVAILABLE"


class StoreUnavailable(Unavailable):
    """The store cannot be read or written now. Nothing was changed; proxying does not depend on it."""


class OutcomeUnknown(Unavailable):
    """A change was to be committed and nobody answered: the store knows what happened."""


# --- from pydantic --------------------------------------------------------------------------------

# Names of the variants of a union: pydantic puts them into the path, but they are not fields of the document.
UNION_TAGS = frozenset({"inline", "reference", "none", "jwt", "apiKey"})
# The only default that is validated: absent from the input, it is known to pydantic by its attribute's name.
_ALIASES = {"strategy_config": "strategyConfig"}
_RULES = {
    "extra_forbidden": "unknown_field",
    "missing": "required",
    "union_tag_invalid": "literal_error",
    "union_tag_not_found": "required",
}
_MESSAGES = {
    "extra_forbidden": "unknown field",
    "missing": "this field is required",
    "model_type": "Input should be an object",
    "model_attributes_type": "Input should be an object",
    "dict_type": "Input should be an object",
    "union_tag_not_found": "this field is required",
}
_TAG_ERRORS = ("union_tag_invalid", "union_tag_not_found")


def field_path(location: Sequence[int | str], prefix: str = "") -> str:
    """``("backends", 0, "inline", "url")`` → ``"backends[0].url"``."""
    path = prefix
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part not in UNION_TAGS:
            name = _ALIASES.get(part, part)
            path += f".{name}" if path else name
    return path


def _detail(error: ErrorDetails, prefix: str) -> Detail:
    kind = error["type"]
    if kind == "union_tag_not_found":  # of those that are told apart by their type
        return Detail(field_path((*error["loc"], "type"), prefix), "required", _MESSAGES["missing"])
    message = _MESSAGES.get(kind) or error["msg"]
    location = error["loc"]
    if kind in _TAG_ERRORS:
        # pydantic names the object; what is wrong is the field that says which kind of object it is.
        location = (*location, str(error["ctx"]["discriminator"]).strip("'"))
        if kind == "union_tag_invalid":
            message = f"Input should be one of {error['ctx']['expected_tags']}"
    return Detail(field_path(location, prefix), _RULES.get(kind, kind), message)


def from_pydantic(error: ValidationError, prefix: str = "") -> ValidationFailed:
    """The answer for a failed validation; ``prefix`` is where the validated object lies in the document."""
    problems = error.errors(include_url=False, include_input=False)
    return ValidationFailed.of([_detail(problem, prefix) for problem in problems])


# --- from the compiler ----------------------------------------------------------------------------

Locate = Callable[[Mapping[str, Any]], str]


def _last_field(problem: Mapping[str, Any]) -> str:
    """The path inside the object: ``routes[3].pathPattern`` → ``pathPattern``."""
    return str(problem.get("path") or "").partition("].")[2]


def from_core(problems: Sequence[Mapping[str, Any]], locate: Locate = _last_field) -> GatewayError:
    """The answer for a configuration that the compiler refused.

    ``problems`` are those of ``_core.ConfigError``; ``locate`` gives a problem's path in the caller's
    document, for the compiler only knows the path in the change set.
    """
    details = [
        Detail(locate(p), str(p.get("code", "VALIDATION")).lower(), str(p["message"])) for p in problems
    ]
    if not details:
        return ValidationFailed("the configuration was refused")
    if any(p.get("code") == "CONFLICT" for p in problems):
        conflicts = [d for d in details if d.rule == "conflict"]
        return Conflict(conflicts[0].message, details)
    return ValidationFailed.of(details)
