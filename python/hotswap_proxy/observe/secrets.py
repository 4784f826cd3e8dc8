"""Keeps secrets out of log lines: by the name of a field, and by what a secret looks like in a text.

The last resort. Who logs is to leave secrets out; a library's message or an exception's text may not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
DEEPEST = 8  # levels of a value that are looked at; what is deeper is left out
_WORDS = r"authorization|password|passwd|secret|token|api[_-]?key|private[_-]?key|credential|cookie|signature"
_NAME = re.compile(_WORDS, re.I)
# "apiKeyId", "tokens", "secretName": which one, not what it is.
_HARMLESS = re.compile(r"(?:[_-]?id|tokens|[_-]?name|[_-]?header|[_-]?count|[_-]?lifetime)$", re.I)
_TEXTS: tuple[tuple[re.Pattern[str], str], ...] = (
    # https://user:password@host; a password may have further @ in it
    (re.compile(r"://[^/?#\s\"'<>]*@"), f"://{HIDDEN}@"),
    # a header line; a cookie goes to the end of its line
    (re.compile(r"\b((?:proxy-)?authorization|x-api-key):[ \t]*\S+(?:[ \t]+\S+)?", re.I), rf"\1: {HIDDEN}"),
    (re.compile(r"\b((?:set-)?cookie):[^\r\n]*", re.I), rf"\1: {HIDDEN}"),
    (re.compile(r"\b(bearer|basic)[ \t]+(?=\S*[0-9=._])[\w.~+/=-]{8,}", re.I), rf"\1 {HIDDEN}"),
    # a JSON Web Token; an API key of ours
    (re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*"), HIDDEN),
    (re.compile(r"\bhsk_[\w-]+"), HIDDEN),
    # "password": "…", 'token': '…'
    (
        re.compile(rf"""(["'][\w.-]*(?:{_WORDS})["'][ \t]*:[ \t]*)(?:"[^"]*"|'[^']*')""", re.I),
        rf'\1"{HIDDEN}"',
    ),
    # password=…, of a query, a keyword, a data source name
    (
        re.compile(rf"""\b([\w.-]{{0,64}}(?:{_WORDS})=)(?:"[^"]*"|'[^']*'|[^\s&;,"')\]}}]+)""", re.I),
        rf"\1{HIDDEN}",
    ),
)


def hide(value: Any, name: str = "", depth: int = 0) -> Any:
    """``value`` without the secrets in it; ``name``: of the field it is the value of."""
    if isinstance(value, str | bytes | bytearray):
        if name and _NAME.search(name) and not _HARMLESS.search(name):
            return HIDDEN
        return _without(value if isinstance(value, str) else bytes(value).decode("utf-8", "backslashreplace"))
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth == DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        return {str(key): hide(item, str(key), depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [hide(item, name, depth + 1) for item in value]
    return hide(str(value), name, depth)


def _without(text: str) -> str:
    for pattern, replacement in _TEXTS:
        text = pattern.sub(replacement, text)
    return text
