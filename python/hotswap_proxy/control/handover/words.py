"""What both sides of a hand-over, and who asks for one, have in common."""

from __future__ import annotations

PREPARE_TIMEOUT = 60.0  # seconds for the new process to be ready, unless who asks says otherwise
LONGEST_TIMEOUT = 3600.0
HAND_OVER_TIMEOUT = 60.0  # seconds to take over; most of it is for a change that is under way


class UpgradeError(RuntimeError):
    """The node was not handed over; the text is for the operator."""
