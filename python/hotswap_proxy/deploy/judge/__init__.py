"""Judging a deployment: verdicts as pure functions of recorded measurements."""
