"""Starts the engine of deployments; called once by the control process, when the node serves."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hotswap_proxy.control.parts import Parts


async def start(stack: AsyncExitStack, parts: Parts) -> None:
    """What is started ends with ``stack``."""
