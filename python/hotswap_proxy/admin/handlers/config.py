"""The whole configuration as one document, for apply, diff, validate and export of the command line."""

from __future__ import annotations

import asyncio

from hotswap_proxy.configfile import ConfigFile, FileFormat

from ..models import ApplyQuery, ValidateQuery
from ..routing import ADMIN, EVERYONE, MAX_FILE_BODY, Answer, Call, Endpoint

PATH = "/api/v1/gateway/config"


async def _file(call: Call) -> ConfigFile:
    # In a thread: ten thousand routes take half a second, and health checks are answered meanwhile.
    body, call.body = call.body, None  # parsing uses it up
    return await asyncio.to_thread(ConfigFile.parse, body, call.context.configuration.rules)


async def apply(call: Call) -> Answer:
    query: ApplyQuery = call.query
    configuration = call.context.configuration
    plan = await configuration.apply(
        await _file(call), prune=query.prune, author=call.author, dry_run=query.dry_run
    )
    return Answer(
        {
            "dryRun": query.dry_run,
            "configChangeApplied": not query.dry_run,
            "generation": configuration.generation,
            **plan.answer(),
        }
    )


async def validate(call: Call) -> Answer:
    plan = await call.context.configuration.plan(await _file(call), prune=call.query.prune)
    return Answer({"valid": True, **plan.answer()})


async def export(call: Call) -> Answer:
    return Answer(await call.context.configuration.export())


ENDPOINTS = (
    Endpoint(
        method="POST",
        path=f"{PATH}/apply",
        handler=apply,
        roles=ADMIN,
        summary="Make the configuration agree with a file: all of it or nothing",
        query=ApplyQuery,
        body=FileFormat,
        raw=True,
        max_body=MAX_FILE_BODY,
    ),
    Endpoint(
        method="POST",
        path=f"{PATH}/validate",
        handler=validate,
        roles=EVERYONE,
        summary="Check a file as apply would, and answer the difference",
        query=ValidateQuery,
        body=FileFormat,
        raw=True,
        max_body=MAX_FILE_BODY,
    ),
    Endpoint(
        method="GET",
        path=f"{PATH}/export",
        handler=export,
        roles=EVERYONE,
        summary="The configuration as a file",
    ),
)
