"""Traces: where the spans of requests and of changes go, and how many of them got there."""
