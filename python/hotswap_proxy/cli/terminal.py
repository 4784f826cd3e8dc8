"""What may be printed: a terminal obeys control characters, and who is not logged in can have some kept.

The user name of a failed login is in the audit log, the path of a request in its trace.
"""

from __future__ import annotations

import json
from typing import Any


def plain(value: str, keep: str = "") -> str:
    """``value`` with what is not printable, but ``keep``, as an escape: no new line, colour, reversal."""
    if value.isprintable():
        return value
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode()
        for char in value
    )


def as_json(data: Any, indent: int | None = None) -> str:
    """``data`` as JSON; what is not printable is escaped there too, which JSON asks for below U+0020 only."""
    text = json.dumps(data, indent=indent, ensure_ascii=False)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)
