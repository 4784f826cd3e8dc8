"""Registered backends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hotswap_proxy.control.health.spec import check_of
from hotswap_proxy.errors import Conflict, Detail, NotFound, ValidationFailed
from hotswap_proxy.model import Backend, parse_url
from hotswap_proxy.store import AuditEntry, StoreChanges, backends
from hotswap_proxy.store.routes import Stored

from .. import answers
from ..models import BackendQuery, CircuitOrder, HealthCheckRun, WriteQuery
from ..routing import ADMIN, ADMIN_OPERATOR, EVERYONE, Answer, Call, Endpoint

PATH = "/api/v1/gateway/backends"


def _live(call: Call, found: Stored, rows: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """What the node knows of the backend, which is known by its address."""
    counted = dict(call.context.node.backend_statistics(parse_url(found.document["url"]).url, rows))
    live = {key: counted.pop(key) for key in ("healthStatus", "circuitBreaker", "ejectedUntil")}
    return live | {"statistics": counted}


async def _get(call: Call) -> Stored:
    found = await call.context.store.read(backends.get, call.path["id"])
    if found is None:
        raise NotFound(f"no backend {call.path['id']}")
    return found


async def list_backends(call: Call) -> Answer:
    query: BackendQuery = call.query
    found, total = await call.context.store.read(backends.page, query.is_enabled, query.limit, query.offset)
    rows = call.context.node.backend_rows()
    return answers.page("backends", [one.answer() | _live(call, one, rows) for one in found], total, query)


async def get_backend(call: Call) -> Answer:
    found = await _get(call)
    return answers.stored(found, **_live(call, found))


async def get_backend_health(call: Call) -> Answer:
    found = await _get(call)
    told = {key: found.document[key] for key in ("backendId", "name", "url", "isEnabled")}
    live = _live(call, found)
    address, check = parse_url(found.document["url"]).url, check_of(found.document)
    seen = call.context.node.backend_check(address, check) if check else None
    counted = live.pop("statistics")
    return Answer(told | live | counted | {"healthCheck": seen})


async def run_health_check(call: Call) -> Answer:
    given: HealthCheckRun = call.body
    call.path["id"] = given.backend_id
    defines = "health_check" in given.model_fields_set
    if defines:
        done = await call.context.configuration.update_backend(
            given.backend_id,
            {"healthCheck": given.health_check},
            author=call.author,
            if_match=call.if_match,
            dry_run=call.query.dry_run,
        )
        if call.query.dry_run:
            return answers.written(done)
    elif call.query.dry_run:
        raise ValidationFailed.of([Detail("dryRun", "dry_run", "a check that is only run has no dry run")])
    found = await _get(call)
    address, check = parse_url(found.document["url"]).url, check_of(found.document)
    seen = await call.context.node.check_now(address, check) if check else None
    if seen is None and not defines:
        why = "is disabled" if check and not found.document["isEnabled"] else "has no health check"
        raise Conflict(f"backend {found.document['name']} {why}; nothing was checked")
    told = {key: found.document[key] for key in ("backendId", "name", "url", "isEnabled")}
    status = _live(call, found)["healthStatus"]
    return Answer(told | {"healthStatus": status, "healthCheck": seen})


async def order_circuit_breaker(call: Call) -> Answer:
    """Of a registered backend or a route's own. Written down before it is done."""
    given: CircuitOrder = call.body
    found = await call.context.store.read(backends.find_any, call.path["id"])
    if found is None:
        raise NotFound(f"no backend {call.path['id']}")
    entry = AuditEntry("backend.circuit-breaker", found["backendId"], found["name"], {"state": given.state})
    await call.context.store.commit(StoreChanges(audit=[entry]), call.author)
    state = call.context.node.order_circuit(parse_url(found["url"]).url, given.state)
    if state is None:
        raise Conflict(f"backend {found['name']} is not in the configuration of this node")
    told = {key: found[key] for key in ("backendId", "name", "url")}
    return Answer(told | {"circuitBreaker": state})


async def create_backend(call: Call) -> Answer:
    done = await call.context.configuration.create_backend(
        call.body, author=call.author, dry_run=call.query.dry_run
    )
    return answers.written(done, status=201)


async def update_backend(call: Call) -> Answer:
    done = await call.context.configuration.update_backend(
        call.path["id"], call.body, author=call.author, if_match=call.if_match, dry_run=call.query.dry_run
    )
    return answers.written(done)


async def delete_backend(call: Call) -> Answer:
    done = await call.context.configuration.delete_backend(
        call.path["id"], author=call.author, if_match=call.if_match, dry_run=call.query.dry_run
    )
    return answers.removed(done, dry_run=call.query.dry_run)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path=PATH,
        handler=list_backends,
        roles=EVERYONE,
        summary="List registered backends",
        answers={200: "BackendPage"},
        query=BackendQuery,
    ),
    Endpoint(
        method="POST",
        path=PATH,
        handler=create_backend,
        roles=ADMIN,
        summary="Register a backend",
        answers={201: "BackendWritten", 200: "Plan"},
        errors={409: "A name or an id is taken."},
        query=WriteQuery,
        body=Backend,
        example={"name": "orders-1", "url": "http://10.0.0.7:9003", "healthCheck": {"endpoint": "/health"}},
        raw=True,
    ),
    Endpoint(
        method="GET",
        path=f"{PATH}/{{id}}",
        handler=get_backend,
        roles=EVERYONE,
        summary="One backend with its health, statistics and ETag",
        answers={200: "BackendShown"},
    ),
    Endpoint(
        method="PUT",
        path=f"{PATH}/{{id}}",
        handler=update_backend,
        roles=ADMIN,
        summary="Change the given fields; isEnabled: false takes it out without dropping requests in flight",
        example={"isEnabled": False},
        answers={200: "BackendWritten | Plan"},
        errors={409: "A name is taken, or a route uses it by its name."},
        partial=True,
        conditional=True,
        query=WriteQuery,
        body=Backend,
        raw=True,
    ),
    Endpoint(
        method="DELETE",
        path=f"{PATH}/{{id}}",
        handler=delete_backend,
        roles=ADMIN,
        summary="Remove a backend that no route uses",
        answers={204: "", 200: "Plan"},
        errors={409: "A route uses it."},
        conditional=True,
        query=WriteQuery,
    ),
    Endpoint(
        method="GET",
        path=f"{PATH}/{{id}}/health",
        handler=get_backend_health,
        roles=EVERYONE,
        summary="Health and load of one backend",
        answers={200: "BackendHealth"},
    ),
    Endpoint(
        method="PUT",
        path=f"{PATH}/{{id}}/circuit-breaker",
        handler=order_circuit_breaker,
        roles=ADMIN_OPERATOR,
        summary="Hold a backend's circuit breaker open or closed, or leave it to itself",
        answers={200: "CircuitOrdered"},
        errors={409: "No route of this node has it."},
        body=CircuitOrder,
        example={"state": "Open"},
    ),
    Endpoint(
        method="POST",
        path="/api/v1/gateway/health-checks",
        handler=run_health_check,
        roles=ADMIN_OPERATOR,
        summary="Run a backend's health check now, after defining it if it is given; the result counts",
        answers={200: "CheckRun | Plan"},
        errors={404: "There is no such backend.", 409: "It has no health check, or is disabled."},
        conditional=True,
        query=WriteQuery,
        body=HealthCheckRun,
        example={"backendId": "be-1", "healthCheck": {"interval": "10s"}},
    ),
)
