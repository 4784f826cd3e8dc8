"""Stored documents → the compiler's change set. Plain dictionaries, for a start reads ten thousand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hotswap_proxy.deploy.exposure import share_of
from hotswap_proxy.model import Target, duration_ms, parse_url
from hotswap_proxy.settings import Settings

from .canary import Running, compile_assignment
from .policies import compile_policy

Document = dict[str, Any]


def compile_backend(document: Document) -> Document:
    pool, timeouts = document["connectionPool"], document["timeouts"]
    tls = {"tls": document["tls"]} if "tls" in document else {}
    return tls | {
        "backendId": document["backendId"],
        "name": document["name"],
        "url": parse_url(document["url"]).url,
        "weight": document["weight"],
        "isEnabled": document["isEnabled"],
        "pool": {
            "minSize": pool["minSize"],
            "maxSize": pool["maxSize"],
            "maxIdleMs": duration_ms(pool["maxIdleTime"]),
            "waitMs": duration_ms(pool["connectionTimeout"]),
        },
        "timeouts": {
            "connectMs": duration_ms(timeouts["connectTimeout"]),
            "readMs": duration_ms(timeouts["readTimeout"]),
            "writeMs": duration_ms(timeouts["writeTimeout"]),
        },
    }


def compile_route(document: Document, settings: Settings, running: Running | None = None) -> Document:
    """``running``: the deployment that is under way on the route, with its other version."""
    compiled = {key: document[key] for key in _SAME}
    compiled["timeoutMs"] = document["timeoutSeconds"] * 1000
    compiled["maxRequestBody"] = document.get("maxRequestBody", settings.max_request_body)
    compiled["maxResponseBody"] = document.get("maxResponseBody", settings.max_response_body)
    compiled["backends"] = [
        compile_backend(backend) if "url" in backend else backend for backend in document["backends"]
    ]
    if policy := compile_policy(document):
        compiled["policy"] = policy
    if "hosts" in document:
        compiled["hosts"] = document["hosts"]
    if document["strategy"] == "HeaderBased":
        compiled["headerRules"] = document["strategyConfig"]
    if running is not None:
        deployment = running.deployment
        compiled["canary"] = {
            "deploymentId": deployment.deployment_id,
            "share": share_of(deployment, settings.node_id),
            "salt": deployment.salt,
            "assignment": compile_assignment(deployment.assignment),
            "route": compile_route(running.candidate, settings),
        }
    return compiled


_SAME = ("routeId", "name", "version", "pathPattern", "methods", "priority", "isEnabled", "strategy")


def named_targets(document: Document) -> Iterator[tuple[str, Target]]:
    """(field path, target) of the URLs in a route or backend whose host is a name to be resolved."""
    if "url" in document:
        target = parse_url(document["url"])
        if target.is_name:
            yield "url", target
    for index, backend in enumerate(document.get("backends", ())):
        for path, target in named_targets(backend):
            yield f"backends[{index}].{path}", target
