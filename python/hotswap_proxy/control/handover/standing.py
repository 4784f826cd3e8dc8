"""What a successor is told of backends, so that one which is dead is not tried again for an interval:
healths, circuits held by order, and who is left out now.

By address, in words: shared memory belongs to one version of the program and is never shared with another.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterable, Iterator
from typing import Any

from hotswap_proxy import _core
from hotswap_proxy.control.health.machine import Health, State
from hotswap_proxy.control.health.registry import Registry
from hotswap_proxy.control.standing import STATES

log = logging.getLogger("hotswap_proxy.control")

_BATCH = 2000  # addresses in one message


def messages(node: _core.Node, registry: Registry) -> Iterator[dict[str, Any]]:
    """The standing of this node's backends, in messages of bounded size."""
    healths = registry.healths()
    rows = iter([address, health.state.name, health.streak] for address, health in healths.items())
    while batch := list(itertools.islice(rows, _BATCH)):
        yield {"healths": batch}
    held, out = {}, []
    for row in node.troubled():
        state, mode = STATES[row["circuit"]]
        if mode != "Auto":
            held[row["address"]] = mode
        elif state != "Closed" or row["ejectedUntil"] > time.monotonic():
            out.append(row["address"])
    yield {"circuits": held}  # by an operator's order: few
    for start in range(0, len(out), _BATCH):
        yield {"out": out[start : start + _BATCH]}


def take(found: Iterable[dict[str, Any]], node: _core.Node, registry: Registry) -> None:
    """Use what a predecessor told. What this version does not know is left out; addresses that are not
    configured (yet) have no effect on circuits.
    """
    for message in found:
        registry.recall(
            {
                address: Health(State[state], streak)
                for address, state, streak in message.get("healths", ())
                if state in State.__members__
            }
        )
        for address, mode in message.get("circuits", {}).items():
            if mode in ("Open", "Closed"):
                node.order_circuit(address, mode)
        for address in message.get("out", ()):
            node.eject(address)
