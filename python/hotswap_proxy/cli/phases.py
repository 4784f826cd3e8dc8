"""Phases of a rollout as they are written on the command line."""

from __future__ import annotations

from typing import Any

from hotswap_proxy.cli.options import EXIT_INVALID, CommandError


def read_phase(text: str, forms: str) -> dict[str, Any]:
    """``"10:5m"`` → share and duration, ``"10"`` → the share alone. ``forms``: those to tell of."""
    share, _, duration = text.partition(":")
    try:
        phase: dict[str, Any] = {"trafficPercentage": float(share.removesuffix("%"))}
    except ValueError:
        raise CommandError([f"--phase {text!r}: write {forms}"], EXIT_INVALID) from None
    return phase | ({"duration": duration} if duration else {})
