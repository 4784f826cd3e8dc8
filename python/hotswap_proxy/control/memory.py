"""Gives memory back to the system after a large change."""

from __future__ import annotations

import ctypes
import gc
import logging

log = logging.getLogger("hotswap_proxy.control")


def trim() -> None:
    """Collect garbage and return free heap pages (glibc; elsewhere only the first)."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        return
