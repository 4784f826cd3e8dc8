"""API keys: each user's own, and all of them for administrators."""

from __future__ import annotations

from hotswap_proxy.control.plan import ObjectChange, Plan
from hotswap_proxy.errors import Forbidden
from hotswap_proxy.store import api_keys
from hotswap_proxy.store.times import rfc3339

from .. import answers
from ..models import ApiKeyCreate, ApiKeyQuery, WriteQuery
from ..routing import EVERYONE, Answer, Call, Endpoint

PATH = "/api/v1/authentication/api-keys"


async def list_api_keys(call: Call) -> Answer:
    assert call.user is not None
    query: ApiKeyQuery = call.query
    whose = query.user_id
    if call.user.role != "Admin":
        if whose not in (None, call.user.user_id):
            raise Forbidden("only an Admin sees the API keys of others")
        whose = call.user.user_id
    found, total = await call.context.store.read(api_keys.page, whose, query.limit, query.offset)
    return answers.page("apiKeys", [key.answer() for key in found], total, query)


async def create_api_key(call: Call) -> Answer:
    assert call.user is not None
    if call.author.api_key_id is not None:
        # Else one that was stolen could leave others behind, which outlive its deletion.
        raise Forbidden("an API key makes no API keys; log in")
    given: ApiKeyCreate = call.body
    expires_at = rfc3339(given.expires_at) if given.expires_at else None
    store, dry_run = call.context.store, call.query.dry_run
    write = store.rehearse if dry_run else store.write
    key, shown = await write(api_keys.create, call.user, given.name, given.role, expires_at, call.author)
    if dry_run:
        return Answer({"dryRun": True, **Plan([ObjectChange("apiKey", "added", "", key.name)]).answer()})
    return Answer(key.answer() | {"key": shown}, 201)


async def delete_api_key(call: Call) -> Answer:
    assert call.user is not None
    if call.user.role != "Admin" and call.author.api_key_id not in (None, call.path["id"]):
        # Else one of little power could take those away that others need.
        raise Forbidden("an API key ends no other API keys; log in")
    whose = None if call.user.role == "Admin" else call.user.user_id
    store, dry_run = call.context.store, call.query.dry_run
    write = store.rehearse if dry_run else store.write
    key = await write(api_keys.remove, call.path["id"], whose, call.author)
    if dry_run:
        plan = Plan([ObjectChange("apiKey", "removed", key.key_id, key.name)])
        return Answer({"dryRun": True, **plan.answer()})
    return Answer(status=204)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path=PATH,
        handler=list_api_keys,
        roles=EVERYONE,
        summary="List one's own API keys; for Admin all, or those of one user",
        answers={200: "KeyPage"},
        errors={403: "Only an Admin sees the keys of others."},
        query=ApiKeyQuery,
    ),
    Endpoint(
        method="POST",
        path=PATH,
        handler=create_api_key,
        roles=EVERYONE,
        summary="Make an API key; it is shown in this answer only",
        answers={201: "KeyCreated", 200: "Plan"},
        errors={403: "An API key makes no API keys.", 409: "The name is taken, or there are too many."},
        query=WriteQuery,
        body=ApiKeyCreate,
        example={"name": "deploy-bot", "role": "Operator", "expiresAt": "2031-01-31T12:00:00Z"},
    ),
    Endpoint(
        method="DELETE",
        path=f"{PATH}/{{id}}",
        handler=delete_api_key,
        roles=EVERYONE,
        summary="End an API key: one's own; for Admin any",
        answers={204: "", 200: "Plan"},
        errors={403: "An API key ends no other API keys."},
        query=WriteQuery,
    ),
)
