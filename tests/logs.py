"""Logging as a node has it, for a test: into a text, and as before afterwards."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from collections.abc import Callable, Iterator

import pytest

from hotswap_proxy.observe import structured


@contextlib.contextmanager
def written(
    monkeypatch: pytest.MonkeyPatch, configure: Callable[[str, str], None] = structured.configure
) -> Iterator[io.StringIO]:
    """What is logged meanwhile, by every logger of the process."""
    root = logging.getLogger()
    named = [each for each in root.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    levels = {each: each.level for each in (root, *named)}
    handlers = root.handlers[:]
    root.handlers.clear()  # else pytest's own would be closed
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    configure("info", "node-1")
    try:
        yield stream
    finally:
        root.handlers[:] = handlers
        for each, level in levels.items():
            each.setLevel(level)
