"""Reads a document from a file, YAML or JSON: the one loader of validate, diff, apply, --config and reload.

What comes out is what JSON can say, whichever it was: a mapping's keys are text as it stands there (``1:`` is
"1"), a bare date is text, and what only YAML has (binary, sets, infinity) is an error. Bounded, for a file may
be somebody else's: aliases that unfold to more than a million values are refused.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import orjson

from .errors import ValidationFailed

MAX_UNFOLDED = 1_000_000  # values that aliases may add to those which are written
STANDARD_INPUT = Path("-")


def read(path: Path, *, stdin: bool = False) -> Any:
    """The document in a file; ``.json`` is JSON, all else YAML. ValidationFailed names file and place.

    ``stdin``: the path - means standard input.
    """
    piped = stdin and path == STANDARD_INPUT
    name = "standard input" if piped else str(path)
    try:
        data = sys.stdin.buffer.read() if piped else path.read_bytes()
    except OSError as error:
        raise ValidationFailed(f"{name}: {error.strerror or error}") from error
    try:
        return parse_json(data) if path.suffix == ".json" else parse_yaml(data)
    except ValidationFailed as error:
        raise ValidationFailed(f"{name}: {error.message}") from None


def parse_json(data: bytes) -> Any:
    """ValidationFailed names line and column."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ValidationFailed(f"line {error.lineno} column {error.colno}: {error.msg}") from None


def parse_yaml(data: bytes) -> Any:
    """ValidationFailed names line and column, where there are."""
    import yaml

    from .yamlfile import StrictLoader

    loader = None
    try:
        loader = StrictLoader(data)
        node = loader.get_single_node()
        if node is None:
            return None
        if b"*" in data:
            _check_unfolded(node)
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1} column {mark.column + 1}: " if mark else ""
        problem = error.problem or error.context or "not YAML"
        if problem.startswith("but "):  # the second half of a sentence
            problem = f"{error.context} {problem}"
        raise ValidationFailed(f"{place}{problem}") from None
    except RecursionError:
        raise ValidationFailed("it is nested too deeply") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ValidationFailed(" ".join(str(error).split())) from None
    finally:
        if loader is not None:
            loader.dispose()


def _check_unfolded(root: Any) -> None:
    """Refuse a document whose aliases unfold without measure (a "billion laughs"), or into themselves."""
    sizes: dict[int, int] = {}
    _unfolded(root, sizes)
    if sizes[id(root)] - len(sizes) > MAX_UNFOLDED:
        raise ValidationFailed(f"its aliases unfold to more than {MAX_UNFOLDED} values")


def _unfolded(node: Any, sizes: dict[int, int]) -> int:
    """How many values a node is, each alias counted in full; 0 for one that is being counted."""
    known = sizes.get(id(node))
    if known is not None:
        if known == 0:
            mark = node.start_mark
            raise ValidationFailed(
                f"line {mark.line + 1} column {mark.column + 1}: the value contains itself"
            )
        return known
    sizes[id(node)] = 0
    size = 1
    if not isinstance(node.value, str):
        for child in node.value:
            for each in child if isinstance(child, tuple) else (child,):
                size += _unfolded(each, sizes)
    sizes[id(node)] = size
    return size
