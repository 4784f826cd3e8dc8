"""Writes docs/api-reference.md and docs/configuration-reference.md; --check: are they current?."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hotswap_proxy.admin.openapi import build
from hotswap_proxy.admin.openapi_schemas import Schemas
from hotswap_proxy.configfile import FileFormat

DOCS = Path(__file__).parents[1] / "docs"
Schema = dict[str, Any]
MADE = "<!-- Made by scripts/api_reference.py from the models; `make generate` writes it anew. -->"
_BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {}",
    "maxItems": "at most {}",
    "maxProperties": "at most {}",
    "pattern": "matches `{}`",
}


def anchor(name: str) -> str:
    return name.lower()


def kind(schema: Schema) -> str:
    """A schema in a few words, with links to those that have a name."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{anchor(name)})"
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(kind(each) for each in schema[key]))
    if "const" in schema:
        return f"`{_json(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        if "prefixItems" in schema:
            return "list of " + ", ".join(kind(each) for each in schema["prefixItems"])
        return f"list of {kind(schema.get('items', {}))}"
    if schema.get("type") == "object":
        values = schema.get("additionalProperties")
        return f"object of {kind(values)}" if isinstance(values, dict) else "object"
    return str(schema.get("format") or schema.get("type") or "any value")


def rules(schema: Schema) -> str:
    """Description and bounds, also those of what is in a list or is one of several."""
    told = [schema["description"].rstrip(".")] if schema.get("description") else []
    told += [text.format(schema[key]) for key, text in _BOUNDS.items() if key in schema]
    for inner in (*schema.get("anyOf", ()), schema.get("items", {}), schema.get("additionalProperties", {})):
        if isinstance(inner, dict) and inner and "$ref" not in inner:
            told += [each for each in [rules(inner)] if each]
    return "; ".join(dict.fromkeys(told))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def table(schema: Schema, *, defaults: bool = True) -> Iterator[str]:
    yield "| field | type | default | rule |" if defaults else "| field | type | |"
    yield "|---|---|---|---|" if defaults else "|---|---|---|"
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        default = "**required**" if name in required else f"`{_json(field.get('default'))}`"
        if name not in required and field.get("default") is None:
            default = "none"
        columns = [name, cell(kind(field)), *([default] if defaults else []), cell(rules(field))]
        yield f"| {' | '.join(columns)} |"


def configuration() -> Iterator[str]:
    schema = FileFormat.model_json_schema(by_alias=True, schema_generator=Schemas)
    yield from ("# Configuration reference", "", MADE, "")
    yield "Every field of the [declarative file](configuration.md), which the API takes as well. A field that"
    yield "is not here is an error. What fields have to do with each other is in"
    yield "[configuration](configuration.md); the same as a JSON Schema: `hotswap-proxy schema`."
    for name, each in (("The file", schema), *_in_order(schema)):
        yield from ("", f"## {name}", "")
        if each.get("description"):
            yield from (" ".join(each["description"].split()).replace("``", "`"), "")
        yield from table(each)


def _in_order(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """The named schemas, each after the first that refers to it."""
    waiting, seen = [schema], set()
    while waiting:
        for name in _names(waiting.pop(0)):
            if name not in seen:
                seen.add(name)
                waiting.append(schema["$defs"][name])
                yield name, schema["$defs"][name]


def _names(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"].rpartition("/")[2]
        for key, value in schema.items():
            if key != "$defs" and key != "discriminator":
                yield from _names(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _names(value)


def api() -> Iterator[str]:
    document = build()
    yield from ("# API reference", "", MADE, "")
    yield "Every call of the admin API with what it takes and answers; the guide is [api.md](api.md). The"
    yield "same as an OpenAPI 3.1 document: `hotswap-proxy openapi`, or `/openapi.json` of a node; to try it"
    yield "out: `/swagger`."
    tag = None
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method == "parameters":
                continue
            if operation["tags"][0] != tag:
                tag = operation["tags"][0]
                yield from ("", f"## {tag}")
            yield from _operation(document, method.upper(), path, operation)
    yield from ("", "## Schemas")
    for name, schema in document["components"]["schemas"].items():
        yield from ("", f"### {name}", "")
        if schema.get("description"):
            yield from (" ".join(schema["description"].split()).replace("``", "`"), "")
        yield from table(schema)


def _operation(document: Schema, method: str, path: str, operation: Schema) -> Iterator[str]:
    yield from ("", f"### {method} `{path}`", "", f"{operation['summary']}. {operation['description']}")
    if parameters := operation.get("parameters"):
        yield from ("", "| parameter | in | type | default | rule |", "|---|---|---|---|---|")
        for each in parameters:
            schema = each["schema"]
            default = f"`{_json(schema['default'])}`" if "default" in schema else "none"
            told = "; ".join(filter(None, (each.get("description", "").rstrip("."), rules(schema))))
            yield f"| {each['name']} | {each['in']} | {cell(kind(schema))} | {default} | {cell(told)} |"
    if body := operation.get("requestBody"):
        schema = body["content"]["application/json"]["schema"]
        yield from ("", f"Body{'' if body['required'] else ', optional'}: {kind(schema)}.")
    yield from ("", "| status | answer | |", "|---|---|---|")
    for status, answer in operation["responses"].items():
        if "$ref" in answer:
            answer = document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
        content = answer.get("content", {})
        told = ", ".join(
            kind(each["schema"]) if media == "application/json" else f"`{media}`"
            for media, each in content.items()
        )
        yield f"| {status} | {told or 'no body'} | {cell(answer['description'])} |"


PAGES = {"api-reference.md": api, "configuration-reference.md": configuration}


def text(page: str) -> str:
    return "\n".join(PAGES[page]()) + "\n"


def main() -> int:
    stale = [page for page in PAGES if not _is_current(page)]
    if "--check" in sys.argv:
        print("\n".join(f"docs/{page} is not current; run: make generate" for page in stale) or "current")
        return bool(stale)
    for page in stale:
        (DOCS / page).write_text(text(page))
    return 0


def _is_current(page: str) -> bool:
    path = DOCS / page
    return path.exists() and path.read_text() == text(page)


if __name__ == "__main__":
    sys.exit(main())
