"""The declarative file: a whole configuration as one YAML or JSON document."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import orjson
from pydantic import BeforeValidator, Field, ValidationError

from . import documents
from .errors import Detail, ValidationFailed, from_pydantic
from .model import Backend, Model, Route, UrlRules

MAX_PROBLEMS = 100


class Item(NamedTuple):
    """A valid backend or route of a file. ``document`` is JSON with all defaults filled in."""

    id: str | None
    name: str
    document: bytes


class FileFormat(Model):
    """The file's format. Routes refer to the file's backends, or to registered ones, by name."""

    version: Annotated[Literal["1"], BeforeValidator(lambda value: str(value))] = Field(
        "1", description="version of the file format"
    )
    backends: list[Backend] = Field(default_factory=list)
    routes: list[Route] = Field(default_factory=list)


class _Frame(Model):
    """The file without its objects, which are validated one by one."""

    version: Annotated[Literal["1"], BeforeValidator(lambda value: str(value))] = "1"
    backends: list[Any] = Field(default_factory=list)
    routes: list[Any] = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A valid file. Its objects are kept as JSON: ten thousand models would be 40 MB for the time of an
    apply.
    """

    backends: list[Item] = field(default_factory=list)
    routes: list[Item] = field(default_factory=list)

    @classmethod
    def parse(cls, document: Any, rules: UrlRules | None = None) -> ConfigFile:
        """Validate a parsed document, which is used up. ValidationFailed names every field that is wrong."""
        if not document:
            # A file that was cut short or not written yet must not mean "remove everything".
            message = "the document is empty; a configuration without routes says so: routes: []"
            raise ValidationFailed.of([Detail("", "not_empty", message)])
        try:
            frame = _Frame.model_validate(document)
        except ValidationError as error:
            raise from_pydantic(error) from None
        if not frame.model_fields_set & {"routes", "backends"}:
            message = "this field is required, if only as an empty list, unless there are backends"
            raise ValidationFailed.of([Detail("routes", "required", message)])
        if isinstance(document, dict):
            document.clear()
        problems: list[Detail] = []
        file = cls(
            list(_items("backends", Backend, "backend_id", frame.backends, rules or UrlRules(), problems)),
            list(_items("routes", Route, "route_id", frame.routes, rules or UrlRules(), problems)),
        )
        problems += _doubles("backends", "backendId", file.backends)
        problems += _doubles("routes", "routeId", file.routes)
        if problems:
            raise ValidationFailed.of(problems)
        return file


def _items(
    kind: str, model: type[Model], key: str, raw: list[Any], rules: UrlRules, problems: list[Detail]
) -> Iterator[Item]:
    for index, given in enumerate(raw):
        raw[index] = None  # done with it: its memory serves the next ones
        try:
            valid: Any = model.model_validate(given, context=rules)
        except ValidationError as error:
            problems += from_pydantic(error, f"{kind}[{index}]").details
            if len(problems) >= MAX_PROBLEMS:
                return
        else:
            yield Item(getattr(valid, key), valid.name, orjson.dumps(valid.document()))


def _doubles(kind: str, key: str, items: list[Item]) -> Iterator[Detail]:
    for column, alias in (("name", "name"), ("id", key)):
        seen: dict[str, int] = {}
        for index, item in enumerate(items):
            value = getattr(item, column)
            if value is not None and (first := seen.setdefault(value, index)) != index:
                yield Detail(f"{kind}[{index}].{alias}", "unique", f"{value} is also in {kind}[{first}]")


def load(path: Path, rules: UrlRules | None = None, *, stdin: bool = False) -> ConfigFile:
    """Read (``documents.read``) and validate a file. ValidationFailed names file and place."""
    document = documents.read(path, stdin=stdin)
    try:
        return ConfigFile.parse(document, rules)
    except ValidationFailed as error:
        raise ValidationFailed(f"{path}: {error.message}", error.details) from None


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the file, for editors and other people's checks."""
    schema = FileFormat.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "hotswap-proxy configuration",
    }
