"""The audit log."""

from __future__ import annotations

from hotswap_proxy.store import audit
from hotswap_proxy.store.audit import AuditFilter
from hotswap_proxy.store.times import rfc3339

from .. import answers
from ..models import AuditQuery
from ..routing import ADMIN, Answer, Call, Endpoint


async def list_entries(call: Call) -> Answer:
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


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/v1/audit-logs",
        handler=list_entries,
        roles=ADMIN,
        summary="Who changed what, newest first",
        query=AuditQuery,
    ),
)
