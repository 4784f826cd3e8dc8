"""The whole configuration as one document, for apply, diff, validate and export of the command line."""

from __future__ import annotations

from typing import Any

import orjson

from hotswap_proxy.configfile import FileFormat
from hotswap_proxy.control.apply import Applied

from ..models import ApplyQuery, ValidateQuery
from ..routing import ADMIN, EVERYONE, MAX_FILE_BODY, Answer, Call, Endpoint

PATH = "/api/v1/gateway/config"
EXAMPLE = {
    "backends": [{"name": "orders-1", "url": "http://10.0.0.7:9003"}],
    "routes": [{"name": "orders", "path": "/orders/{id}", "backends": ["orders-1"]}],
}


def _answer(head: dict[str, Any], done: Applied) -> Answer:
    """The plan after ``head``. It is JSON already, and stays that: it may tell of ten thousand changes."""
    return Answer(orjson.dumps(head)[:-1] + b"," + done.plan[1:])


async def apply_config(call: Call) -> Answer:
    query: ApplyQuery = call.query
    configuration = call.context.configuration
    body, call.body = call.body, None
    done = await configuration.apply(body, prune=query.prune, author=call.author, dry_run=query.dry_run)
    head = {
        "dryRun": query.dry_run,
        "configChangeApplied": not query.dry_run,
        "generation": configuration.generation,
    }
    return _answer(head, done)


async def validate_config(call: Call) -> Answer:
    body, call.body = call.body, None
    done = await call.context.configuration.apply(
        body, prune=call.query.prune, author=call.author, dry_run=True
    )
    return _answer({"valid": True}, done)


async def export_config(call: Call) -> Answer:
    return Answer(await call.context.configuration.export())


ENDPOINTS = (
    Endpoint(
        method="POST",
        path=f"{PATH}/apply",
        handler=apply_config,
        roles=ADMIN,
        summary="Make the configuration agree with a file: all of it or nothing",
        answers={200: "Applied"},
        errors={
            409: "A name is taken, routes conflict, a deployment has not ended, or a change needs approval."
        },
        query=ApplyQuery,
        body=FileFormat,
        example=EXAMPLE,
        unread=True,
        max_body=MAX_FILE_BODY,
    ),
    Endpoint(
        method="POST",
        path=f"{PATH}/validate",
        handler=validate_config,
        roles=EVERYONE,
        summary="Check a file as apply would, and answer the difference",
        answers={200: "Validated"},
        errors={409: "As apply would be refused."},
        query=ValidateQuery,
        body=FileFormat,
        example=EXAMPLE,
        unread=True,
        max_body=MAX_FILE_BODY,
    ),
    Endpoint(
        method="GET",
        path=f"{PATH}/export",
        handler=export_config,
        roles=EVERYONE,
        summary="The configuration as a file",
        answers={200: "Exported"},
    ),
)
