"""The audit log."""

from __future__ import annotations

from hotswap_proxy.errors import Conflict
from hotswap_proxy.store import audit, audit_chain
from hotswap_proxy.store.audit import AuditFilter
from hotswap_proxy.store.times import rfc3339

from .. import answers
from ..models import AuditQuery, AuditVerifyQuery
from ..routing import ADMIN, Answer, Call, Endpoint


async def list_audit_logs(call: Call) -> Answer:
    query: AuditQuery = call.query
    wanted = AuditFilter(
        entity_type=query.entity_type,
        entity_id=query.entity_id,
        user_id=query.user_id,
        since=rfc3339(query.since) if query.since else None,
        until=rfc3339(query.until) if query.until else None,
    )
    found, total = await call.context.store.read(audit.page, wanted, query.limit, query.offset)
    return answers.page("auditLogs", found, total, query)


async def get_audit_head(call: Call) -> Answer:
    found = await call.context.store.read(audit_chain.read_head)
    if found is None:
        raise Conflict("the audit log has lost its head; see what verify says")
    return Answer(found.answer())


async def verify_audit_log(call: Call) -> Answer:
    lock = call.services.verifying
    if lock.locked():  # it reads everything: one at a time is enough work
        raise Conflict("the audit log is being verified already")
    async with lock:
        found = await audit_chain.verify(call.context.store, call.query.expect)
    return Answer(found.answer())


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/v1/audit-logs",
        handler=list_audit_logs,
        roles=ADMIN,
        summary="Who changed what, newest first",
        answers={200: "AuditPage"},
        query=AuditQuery,
    ),
    Endpoint(
        method="GET",
        path="/api/v1/audit-logs/head",
        handler=get_audit_head,
        roles=ADMIN,
        summary="The end of the chain, to be noted in another place",
        answers={200: "AuditHead"},
        errors={409: "The log has lost its head."},
    ),
    Endpoint(
        method="GET",
        path="/api/v1/audit-logs/verify",
        handler=verify_audit_log,
        roles=ADMIN,
        summary="Follow the chain from the first row to the head",
        answers={200: "AuditVerified"},
        errors={409: "Another verification runs."},
        query=AuditVerifyQuery,
    ),
)
