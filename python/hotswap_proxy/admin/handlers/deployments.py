"""Deployments: begun, watched, steered. What is possible when, ``deploy.commands`` decides."""

from __future__ import annotations

from typing import Any

from hotswap_proxy.deploy.record import Deployment
from hotswap_proxy.errors import NotFound
from hotswap_proxy.model.deployment import DeploymentCreate, Promotion, Rejection, RollbackOrder
from hotswap_proxy.store import deployments
from hotswap_proxy.store.deployments import DeploymentFilter
from hotswap_proxy.store.times import seconds_of

from .. import answers, windows
from ..deployments import deployment_answer, list_item, metrics_answer
from ..models import DeploymentQuery, DeploymentView, WindowQuery, WriteQuery, minutes
from ..routing import ADMIN, ADMIN_OPERATOR, EVERYONE, Answer, Call, Endpoint

PATH = "/api/v1/gateway/deployments"
ONE = f"{PATH}/{{id}}"


async def list_deployments(call: Call) -> Answer:
    query: DeploymentQuery = call.query
    wanted = DeploymentFilter(route_id=query.route_id, status=query.status, environment=query.environment)
    found, total = await call.context.store.read(deployments.page, wanted, query.limit, query.offset)
    return answers.page("deployments", [list_item(each) for each in found], total, query)


async def get_deployment(call: Call) -> Answer:
    found = await _find(call)
    answer = deployment_answer(found)
    if call.query.include == "metrics":
        answer["metrics"] = await _metrics(call, found)
    return Answer(answer)


async def get_deployment_metrics(call: Call) -> Answer:
    found = await _find(call)
    body = await _metrics(call, found)
    query: WindowQuery = call.query
    if query.time_window is not None:
        window = await call.context.history.window(
            found.route_id,
            query.time_window,
            minutes(query.time_window),
            since=seconds_of(found.started_at or found.created_at),
            until=seconds_of(found.completed_at) if found.completed_at else float("inf"),
        )
        body["window"] = windows.arms(window)
    return Answer(body)


async def _metrics(call: Call, found: Deployment) -> dict[str, Any]:
    nodes = await call.context.store.read(deployments.measured, found.deployment_id)
    return metrics_answer(found, nodes)


async def create_deployment(call: Call) -> Answer:
    given: DeploymentCreate = call.body
    made = await call.context.deployments.create(given, call.author, dry_run=call.query.dry_run)
    return _ordered(call, made, status=201)


async def promote_deployment(call: Call) -> Answer:
    given: Promotion = call.body
    done = await call.context.deployments.promote(
        call.path["id"], call.author, given.target_percentage, dry_run=call.query.dry_run
    )
    return _ordered(call, done)


async def roll_back_deployment(call: Call) -> Answer:
    given: RollbackOrder = call.body
    done = await call.context.deployments.roll_back(
        call.path["id"], call.author, given.reason, dry_run=call.query.dry_run
    )
    return _ordered(call, done)


async def pause_deployment(call: Call) -> Answer:
    orders = call.context.deployments
    return _ordered(call, await orders.pause(call.path["id"], call.author, dry_run=call.query.dry_run))


async def resume_deployment(call: Call) -> Answer:
    orders = call.context.deployments
    return _ordered(call, await orders.resume(call.path["id"], call.author, dry_run=call.query.dry_run))


async def approve_deployment(call: Call) -> Answer:
    orders = call.context.deployments
    return _ordered(call, await orders.approve(call.path["id"], call.author, dry_run=call.query.dry_run))


async def reject_deployment(call: Call) -> Answer:
    given: Rejection = call.body
    done = await call.context.deployments.reject(
        call.path["id"], call.author, given.reason, dry_run=call.query.dry_run
    )
    return _ordered(call, done)


async def _find(call: Call) -> Deployment:
    found = await call.context.store.read(deployments.get, call.path["id"])
    if found is None:
        raise NotFound(f"no deployment {call.path['id']}")
    return found.deployment


def _ordered(call: Call, done: Deployment, *, status: int = 200) -> Answer:
    """The record after an order; in a dry run as it would be."""
    if call.query.dry_run:
        return Answer({"dryRun": True, **deployment_answer(done)})
    return Answer(deployment_answer(done), status)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path=PATH,
        handler=list_deployments,
        roles=EVERYONE,
        summary="Deployments, newest first",
        answers={200: "DeploymentPage"},
        query=DeploymentQuery,
    ),
    Endpoint(
        method="POST",
        path=PATH,
        handler=create_deployment,
        roles=ADMIN_OPERATOR,
        summary="Deploy a version of a route; in Production it waits for another administrator's approval",
        answers={201: "Ordered", 200: "Rehearsed"},
        errors={
            404: "There is no such route or version.",
            409: "The route has an active deployment, or the version is live.",
        },
        query=WriteQuery,
        body=DeploymentCreate,
        example={
            "routeName": "users",
            "configVersion": "2.0",
            "strategy": "Canary",
            "phases": [
                {"trafficPercentage": 10, "duration": "5m"},
                {"trafficPercentage": 100, "duration": "PT10M"},
            ],
        },
    ),
    Endpoint(
        method="GET",
        path=ONE,
        handler=get_deployment,
        roles=EVERYONE,
        summary="One deployment with its phases, verdict and events",
        answers={200: "Deployment"},
        query=DeploymentView,
    ),
    Endpoint(
        method="GET",
        path=f"{ONE}/metrics",
        handler=get_deployment_metrics,
        roles=EVERYONE,
        summary="What both arms have counted, and how they compare",
        query=WindowQuery,
        answers={200: "DeploymentMetrics"},
    ),
    Endpoint(
        method="POST",
        path=f"{ONE}/promote",
        handler=promote_deployment,
        roles=ADMIN_OPERATOR,
        summary="To the next phase, or to a share",
        answers={200: "Ordered | Rehearsed"},
        errors={409: "The order makes no sense in the present status."},
        query=WriteQuery,
        body=Promotion,
        example={"targetPercentage": 50},
        optional_body=True,
    ),
    Endpoint(
        method="POST",
        path=f"{ONE}/rollback",
        handler=roll_back_deployment,
        roles=ADMIN_OPERATOR,
        summary="All traffic to the previous version",
        answers={200: "Ordered | Rehearsed"},
        errors={409: "The order makes no sense in the present status."},
        query=WriteQuery,
        body=RollbackOrder,
        example={"reason": "the queue behind it grows"},
    ),
    Endpoint(
        method="POST",
        path=f"{ONE}/pause",
        handler=pause_deployment,
        roles=ADMIN_OPERATOR,
        summary="Hold the share and the phase's clock; it is judged all the same",
        answers={200: "Ordered | Rehearsed"},
        errors={409: "The order makes no sense in the present status."},
        query=WriteQuery,
    ),
    Endpoint(
        method="POST",
        path=f"{ONE}/resume",
        handler=resume_deployment,
        roles=ADMIN_OPERATOR,
        summary="Go on where it was paused",
        answers={200: "Ordered | Rehearsed"},
        errors={409: "The order makes no sense in the present status."},
        query=WriteQuery,
    ),
    Endpoint(
        method="POST",
        path=f"{ONE}/approve",
        handler=approve_deployment,
        roles=ADMIN,
        summary="Let it start; not by who made it",
        answers={200: "Ordered | Rehearsed"},
        errors={409: "The order makes no sense in the present status."},
        query=WriteQuery,
    ),
    Endpoint(
        method="POST",
        path=f"{ONE}/reject",
        handler=reject_deployment,
        roles=ADMIN,
        summary="End it before it starts; who made it withdraws it by rollback",
        answers={200: "Ordered | Rehearsed"},
        errors={409: "The order makes no sense in the present status."},
        query=WriteQuery,
        body=Rejection,
        example={"reason": "not before the weekend"},
        optional_body=True,
    ),
)
