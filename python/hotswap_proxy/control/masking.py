"""Secrets of a route: kept where they are used, masked wherever a document is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hotswap_proxy.errors import Detail
from hotswap_proxy.model.policy.auth import KEY_SOURCES, MASK

from .plan import FieldChange

_PATH = "auth.secret"


def masked(document: dict[str, Any]) -> dict[str, Any]:
    """A route as it may be shown. The document itself stays as it is."""
    auth = document.get("auth")
    if not isinstance(auth, dict) or "secret" not in auth:
        return document
    return document | {"auth": auth | {"secret": MASK}}


def masked_change(change: FieldChange) -> FieldChange:
    """A difference between two routes as it may be shown: that a secret changed, but not from or to what."""
    if change.path == _PATH:
        return FieldChange(change.path, *(value and MASK for value in change[1:]))
    if change.path == "auth":
        return FieldChange(change.path, *(masked({"auth": value})["auth"] for value in change[1:]))
    return change


def restore(new: dict[str, Any], old: Mapping[str, Any] | None) -> list[Detail]:
    """Put the secret that is there in the place of a mask that was sent back. What is wrong with it."""
    auth = new.get("auth", {})
    if auth.get("secret") != MASK:
        return []
    kept = (old or {}).get("auth", {}).get("secret")
    if kept is None:
        return [Detail(_PATH, "masked", "this is the mask of a secret; give the secret itself")]
    auth["secret"] = kept
    return []


def merge_auth(old: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """``auth`` of a PUT, field by field within one type. Another source of keys takes the old one's place."""
    if given.get("type", old["type"]) != old["type"]:
        return dict(given)
    replaced = any(given.get(source) is not None for source in KEY_SOURCES)
    kept = {key: value for key, value in old.items() if not (replaced and key in KEY_SOURCES)}
    return kept | dict(given)
