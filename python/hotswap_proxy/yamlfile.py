"""A YAML loader for documents that could be JSON as well, which takes no key twice."""

from __future__ import annotations

import math
from typing import Any

import yaml

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # PyYAML without libyaml: the same, slower
    from yaml import SafeLoader  # type: ignore[assignment]

_TAG = "tag:yaml.org,2002:"
_MERGE, _TEXT, _TIMESTAMP = f"{_TAG}merge", f"{_TAG}str", f"{_TAG}timestamp"
MAX_DEPTH = 200
_NOT_JSON = {_TIMESTAMP, *(_TAG + kind for kind in ("binary", "set", "omap", "pairs"))}


class StrictLoader(SafeLoader):
    """Keys are text as it is written. A key given twice is an error: the first would be lost without a word."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in rules if tag != _TIMESTAMP]
        for first, rules in SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors = {
        tag: constructor for tag, constructor in SafeLoader.yaml_constructors.items() if tag not in _NOT_JSON
    }

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._seen: set[int] = set()
        self._depth = 0

    def descend_resolver(self, current_node: Any, current_index: Any) -> None:
        """Called for each value, within the one around it. libyaml has no bound of its own, only the stack."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _error(f"nested more than {MAX_DEPTH} deep", current_node)

    def ascend_resolver(self) -> None:
        self._depth -= 1

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Called for every mapping before its merge keys are followed, which writes their keys beside its own."""
        if id(node) not in self._seen:
            self._seen.add(id(node))
            self._check_keys(node)
        super().flatten_mapping(node)

    def _check_keys(self, node: yaml.MappingNode) -> None:
        given: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _error("a key must be text", key)
            if key.tag == _MERGE:
                continue
            key.tag = _TEXT
            if key.value in given:
                raise _error(f"the key {key.value!r} is given twice", key)
            given.add(key.value)

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        value: float = super().construct_yaml_float(node)
        if not math.isfinite(value):
            raise _error(f"{node.value} is not a number that JSON has", node)
        return value


StrictLoader.add_constructor(f"{_TAG}float", StrictLoader.construct_yaml_float)


def _error(text: str, node: yaml.Node) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, text, node.start_mark)
