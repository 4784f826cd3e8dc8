"""What webhooks are told of backends: that one flipped, was ejected, or came back."""

from __future__ import annotations

from typing import Any

from hotswap_proxy.control.webhooks import Webhooks

from .machine import STATUS, Health, State
from .registry import Target


class Alerts(Webhooks):
    """The node's webhooks, with a method for each thing that happens to a backend."""

    def send(self, target: Target, before: Health, after: Health) -> None:
        """A backend flipped."""
        assert target.last is not None
        self.tell(
            "backend.healthy" if after.state is State.UP else "backend.unhealthy",
            target.address,
            backends=[{"backendId": id, "name": name} for id, name in target.names()],
            previousStatus=STATUS[before.state].name.capitalize(),
            healthStatus=STATUS[after.state].name.capitalize(),
            reason=target.last.reason,
        )

    def tell(self, event: str, address: str, **more: Any) -> None:
        """Something happened to the backend at ``scheme://host:port``."""
        self.event(event, address=address, **more)
