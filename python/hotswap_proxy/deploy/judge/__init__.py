"""Judging a deployment: verdicts as pure functions of recorded measurements."""

from .verdict import judge

__all__ = ["judge"]
