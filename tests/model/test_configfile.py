"""The declarative file: reading it, and the place of each mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hotswap_proxy.configfile import ConfigFile, json_schema, load
from hotswap_proxy.errors import ValidationFailed

ROUTE: dict[str, Any] = {"name": "a", "pathPattern": "/a", "backends": ["b"]}
GOOD = """
version: 1
backends:
  - {name: b, url: "http://127.0.0.1:9001"}
routes:
  - name: a
    path: /a
    backends: [b]
"""


def written(tmp_path: Path, text: str, name: str = "gateway.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_yaml_and_json_are_the_same(tmp_path: Path) -> None:
    json = '{"backends":[{"name":"b","url":"http://127.0.0.1:9001"}],"routes":[{"name":"a","path":"/a","backends":["b"]}]}'
    assert load(written(tmp_path, GOOD)) == load(written(tmp_path, json, "gateway.json"))


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}", "null", "[]", "version: 1\n"])
def test_an_empty_file_is_not_an_empty_configuration(tmp_path: Path, text: str) -> None:
    """Nor one that was cut short: mirroring it would remove everything."""
    with pytest.raises(ValidationFailed):
        load(written(tmp_path, text))


@pytest.mark.parametrize("text", ["routes: []", "backends: []"])
def test_an_empty_configuration_says_so(tmp_path: Path, text: str) -> None:
    assert load(written(tmp_path, text)) == ConfigFile()


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("routes: [\n", "a.yaml", "line 2 column 1"),
        ("routes:\n  - name: a\n   bad", "a.yaml", "line 3"),
        ("routes: []\nroutes: []", "a.yaml", "line 2 column 1: the key 'routes' is given twice"),
        ("!!python/object/apply:os.system [id]", "a.yaml", "could not determine a constructor"),
        ("- a", "a.yaml", "should be an object"),
        ('{"routes": [}', "a.json", "line 1 column 13"),
        ("version: 2", "a.yaml", "version"),
        ("route: []", "a.yaml", "unknown field"),
    ],
)
def test_broken_files_name_the_place(tmp_path: Path, text: str, name: str, message: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        load(written(tmp_path, text, name))
    assert message in caught.value.message and name in caught.value.message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValidationFailed, match=r"nix\.yaml: No such file"):
        load(tmp_path / "nix.yaml")


def test_every_mistake_is_listed_with_its_path() -> None:
    document = {
        "backends": [{"name": "b", "url": "ftp://x"}],
        "routes": [ROUTE, ROUTE | {"name": "b", "priority": 101}, ROUTE | {"weight": 1}],
    }
    with pytest.raises(ValidationFailed) as caught:
        ConfigFile.parse(document)
    assert [(detail.field, detail.rule) for detail in caught.value.details] == [
        ("backends[0].url", "url_scheme"),
        ("routes[1].priority", "less_than_equal"),
        ("routes[2].weight", "unknown_field"),
    ]


def test_names_and_ids_are_unique_in_a_file() -> None:
    routes = [ROUTE | {"routeId": "r"}, ROUTE, ROUTE | {"name": "c", "routeId": "r"}]
    with pytest.raises(ValidationFailed) as caught:
        ConfigFile.parse({"routes": routes})
    assert [(detail.field, detail.rule) for detail in caught.value.details] == [
        ("routes[1].name", "unique"),
        ("routes[2].routeId", "unique"),
    ]


def test_a_flood_of_mistakes_is_cut() -> None:
    with pytest.raises(ValidationFailed) as caught:
        ConfigFile.parse({"routes": [{}] * 1000})
    assert 100 <= len(caught.value.details) < 110


def test_the_schema_knows_what_is_accepted() -> None:
    schema = json_schema()
    assert schema["$schema"].endswith("2020-12/schema")
    route = schema["$defs"]["Route"]
    assert {"pathPattern", "path", "backends", "strategy"} <= set(route["properties"])
    assert route["additionalProperties"] is False
    assert route["required"] == ["name", "backends"], "either pathPattern or path is required too"
    assert {"required": ["path"]} in route["oneOf"]
    kinds = route["properties"]["backends"]["items"]["anyOf"]
    assert {"type": "string"} in [{"type": kind.get("type")} for kind in kinds]
