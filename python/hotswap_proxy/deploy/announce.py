"""Telling others what became of a deployment: webhooks now, whatever comes later."""

from __future__ import annotations

from typing import Any, Protocol


class Announce(Protocol):
    """Returns at once and never fails. ``event`` is ``deployment.<what happened>``; ``fields`` are JSON
    values without secrets.
    """

    def __call__(self, event: str, /, **fields: Any) -> None: ...


def announce_nothing(event: str, /, **fields: Any) -> None:
    """For those who tell nobody."""
