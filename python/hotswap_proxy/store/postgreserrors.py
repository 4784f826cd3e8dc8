"""What errors of PostgreSQL mean to an operator."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

from hotswap_proxy.errors import GatewayError, StoreUnavailable, ValidationFailed
from hotswap_proxy.postgresurl import PostgresUrl

# Prefixes of SQLSTATE (PostgreSQL, Appendix A) → what an operator can do something about; the first counts.
_FAILURES = (
    ("28", "the database server refuses the user or password"),
    ("3D000", "the database does not exist; create it"),
    ("42501", "the database's user lacks a right; it has to own the tables"),
    ("25006", "the database is read-only (a standby?); nothing was changed"),
    ("53100", "the database server's disk is full; nothing was changed"),
    ("53300", "the database server has too many connections"),
    ("53", "the database server lacks resources"),
    ("55P03", "the store is locked by another writer; try again"),
    ("40", "the store is locked by another writer; try again"),
    ("57014", "the database server took too long; nothing was changed"),
    ("57P03", "the database server is starting or stopping"),
    ("57P", "the database server ended the session; it stops or restarts"),
    ("25P03", "the transaction was idle for too long; nothing was changed"),
    ("08", "the connection to the database server was lost"),
    ("XX", "the database is damaged; restore it from a backup"),
)
# Values that SQLite takes.
_REFUSED = {
    "22021": "text with a NUL character cannot be stored",
    "22001": "text is longer than the store takes",
}


def origin(error: BaseException) -> BaseException:
    """The driver's own error."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return error.orig.__cause__ or error.orig
    return error


def failure(error: BaseException, url: PostgresUrl) -> GatewayError:
    """The answer for an error of the database, of the connection to it, or of its configuration."""
    found = origin(error)
    state = str(getattr(found, "sqlstate", None) or "")
    if state in _REFUSED:
        return ValidationFailed(_REFUSED[state])
    message = str(found)
    if state in ("55000", "0A000") and "recovery" in message:
        state = "25006"
    for prefix, sentence in _FAILURES:
        if state.startswith(prefix):
            return StoreUnavailable(f"{sentence} ({url}: {message})")
    if isinstance(found, TimeoutError):
        return StoreUnavailable(f"the database server does not answer ({url})")
    if isinstance(found, OSError):
        return StoreUnavailable(f"the database server cannot be reached ({url}: {message})")
    return StoreUnavailable(f"the store failed ({url}: {message})")
