"""The declarative file: a whole configuration as one YAML or JSON document."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError

from .errors import Detail, ValidationFailed, from_pydantic
from .model import Backend, Model, Route, UrlRules


class ConfigFile(Model):
    """Routes refer to the file's backends, or to registered ones, by name."""

    version: Annotated[Literal["1"], BeforeValidator(lambda value: str(value))] = Field(
        "1", description="version of the file format"
    )
    backends: list[Backend] = Field(default_factory=list)
    routes: list[Route] = Field(default_factory=list)

    @classmethod
    def parse(cls, document: Any, rules: UrlRules | None = None) -> Self:
        """Validate a parsed document. ValidationFailed names every field that is wrong."""
        try:
            file = cls.model_validate(document, context=rules or UrlRules())
        except ValidationError as error:
            raise from_pydantic(error) from None
        if doubles := [*_doubles("backends", file.backends), *_doubles("routes", file.routes)]:
            raise ValidationFailed.of(doubles)
        return file


def _doubles(kind: str, objects: list[Backend] | list[Route]) -> list[Detail]:
    found: list[Detail] = []
    for field in ("name", "backend_id", "route_id"):
        seen: dict[str, int] = {}
        for index, one in enumerate(objects):
            value = getattr(one, field, None)
            if value is not None and (first := seen.setdefault(value, index)) != index:
                alias = type(one).model_fields[field].alias
                message = f"{value} is also in {kind}[{first}]"
                found.append(Detail(f"{kind}[{index}].{alias}", "unique", message))
    return found


def load(path: Path, rules: UrlRules | None = None) -> ConfigFile:
    """Read and validate a file; ``.json`` is JSON, everything else YAML. ValidationFailed names file and
    place.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValidationFailed(f"{path}: {error.strerror or error}") from error
    document = _read_json(path, data) if path.suffix == ".json" else _read_yaml(path, data)
    try:
        return ConfigFile.parse({} if document is None else document, rules)
    except ValidationFailed as error:
        raise ValidationFailed(f"{path}: {error.message}", error.details) from None


def _read_json(path: Path, data: bytes) -> Any:
    import orjson

    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ValidationFailed(f"{path}: line {error.lineno} column {error.colno}: {error.msg}") from None


def _read_yaml(path: Path, data: bytes) -> Any:
    import yaml

    from .yamlfile import StrictLoader

    try:
        return yaml.load(data, StrictLoader)  # noqa: S506  a subclass of the safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1} column {mark.column + 1}: " if mark else ""
        raise ValidationFailed(f"{path}: {place}{error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ValidationFailed(f"{path}: {error}") from None


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the file, for editors and other people's checks."""
    schema = ConfigFile.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://hotswap-proxy.dev/schema/config-1.json",
        "title": "hotswap-proxy configuration",
        **{key: value for key, value in schema.items() if key != "title"},
    }
