"""JSON Schemas as pydantic makes them, put into the forms that an API's document needs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from copy import deepcopy
from typing import Any, Literal

import orjson
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from hotswap_proxy.control.edits import GROUPS, READ_ONLY

Schema = dict[str, Any]

REF = "#/components/schemas/"
_SUFFIXES = {"Input": "", "Output": "Answered"}
MERGED = (*GROUPS, "auth", "healthCheck")  # fields of which parts may be given


class Schemas(GenerateJsonSchema):
    """Without titles of fields, which only repeat their names; with the defaults that are made for each."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def get_default_value(self, schema: Any) -> Any:
        if "default_factory" in schema and not schema.get("default_factory_takes_data"):
            return schema["default_factory"]()
        return super().get_default_value(schema)


Mode = Literal["validation", "serialization"]


def of_models(
    wanted: Iterable[tuple[type[BaseModel], Mode]],
) -> tuple[dict[tuple[str, Mode], Schema], Schema]:
    """({(model's name, mode): reference}, all schemas by name). A model that is not accepted as it is told
    has two: of these the answered one is called ``…Answered``.
    """
    refs, made = models_json_schema(
        list(wanted), by_alias=True, ref_template=REF + "{model}", schema_generator=Schemas
    )
    text = orjson.dumps([list(refs.values()), made["$defs"]]).decode()
    text = re.sub(r'([A-Za-z])-(Input|Output)"', lambda f: f[1] + _SUFFIXES[f[2]] + '"', text)
    values, schemas = orjson.loads(text)
    return dict(zip(((model.__name__, mode) for model, mode in refs), values, strict=True)), schemas


def query_parameters(model: type[BaseModel]) -> list[Schema]:
    """The fields of a model of query parameters. What is left out is not null: it is not there."""
    schema = model.model_json_schema(by_alias=True, schema_generator=Schemas)
    found = []
    for name, field in schema.get("properties", {}).items():
        told = field.pop("description", None)
        field.pop("title", None)
        required = name in schema.get("required", ())
        if field.get("default", 0) is None:
            del field["default"]
        parameter: Schema = {"name": name, "in": "query", "required": required, "schema": _not_null(field)}
        if told:
            parameter["description"] = told
        found.append(parameter)
    return found


def _not_null(schema: Schema) -> Schema:
    options = [option for option in schema.pop("anyOf", ()) if option != {"type": "null"}]
    if len(options) == 1:
        return {**options[0], **schema}
    return schema | ({"anyOf": options} if options else {})


def change_of(schemas: Schema, name: str, suffix: str) -> str:
    """Add the schema of what PUT takes of an object ``name``: any of its fields, any part of the groups that
    are merged, and those that are answered but not heeded. Its name.
    """
    made = name + suffix
    if made in schemas:
        return made
    schemas[made] = schema = deepcopy(schemas[name])
    schema["title"] = made
    schema.pop("required", None)
    if schema.pop("oneOf", None):
        schema["not"] = {"required": ["path", "pathPattern"]}
    properties = schema["properties"]
    for field in MERGED:
        if field in properties:
            properties[field] = _partial(schemas, properties[field], suffix)
    for field in sorted(READ_ONLY | ({"circuitBreaker"} if "url" in properties else set())):
        properties.setdefault(field, {"description": "Not heeded: what was answered may be sent back."})
    return made


def _partial(schemas: Schema, schema: Any, suffix: str) -> Any:
    """The same with references to schemas that require nothing."""
    if isinstance(schema, list):
        return [_partial(schemas, each, suffix) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(REF)
        target = schemas[name]
        if "required" in target and "properties" in target:
            made = name + suffix
            schemas.setdefault(made, {k: v for k, v in target.items() if k != "required"} | {"title": made})
            return schema | {"$ref": REF + made}
        return schema
    told = {key: _partial(schemas, value, suffix) for key, value in schema.items() if key != "discriminator"}
    if "oneOf" in told and "discriminator" in schema:  # without its type it may be any of them
        told["anyOf"] = told.pop("oneOf")
    return told
