"""The URL of a PostgreSQL database, as ``--database-url`` has it.

Apart from the store, so that the settings can check it without SQLAlchemy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg")
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
FORM = "postgresql://user:password@host/database"
ESCAPE = "with / ? # @ : % of a password escaped (%2F %3F %23 %40 %3A %25)"
# libpq's names; asyncpg takes any other as a setting of the session, which the store has its own ones of.
_PARAMETERS = ("host", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslpassword")


@dataclass(frozen=True, slots=True)
class PostgresUrl:
    """``str`` and ``repr`` have no password and no parameters: they are for messages."""

    user: str
    host: str  # a name, an address, or the directory of a Unix socket
    port: int
    database: str
    password: str | None = field(repr=False)
    parameters: str = field(repr=False)  # about TLS, as in the URL
    text: str = field(repr=False)  # all of it

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        where = host if host.startswith("/") else f"{host}:{self.port}"
        return f"postgresql://{self.user}@{where}/{self.database}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """ValueError says what is wrong, without any part of ``text``: it may be the password."""
        scheme, separator, _ = text.partition("://")
        if not separator or scheme not in SCHEMES:
            raise ValueError(f"write {FORM}; without it, SQLite in the data directory is used")
        try:
            parts = urlsplit(text)
            port = parts.port or 5432
            parameters = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        except ValueError:  # whose message quotes what it could not read
            raise ValueError(f"it cannot be read; write {FORM}, {ESCAPE}") from None
        if not parameters.keys() <= set(_PARAMETERS):
            raise ValueError(f"a parameter is unknown; there are {', '.join(_PARAMETERS)}")
        if parameters.get("sslmode", "prefer") not in SSL_MODES:
            raise ValueError(f"sslmode is one of {', '.join(SSL_MODES)}")
        host = parameters.pop("host", "") or unquote(parts.hostname or "")
        user, database = unquote(parts.username or ""), unquote(parts.path.removeprefix("/"))
        for what, value in (("user", user), ("host", host), ("database", database)):
            if not value:
                raise ValueError(f"there is no {what}; write {FORM}")
            if not value.isprintable() or (what != "host" and "/" in value):
                raise ValueError(f"the {what} cannot be read; {ESCAPE}")
        if "," in host or parts.fragment:
            raise ValueError(f"one host can be given; {ESCAPE}")
        password = None if parts.password is None else unquote(parts.password)
        return cls(user, host, port, database, password, urlencode(parameters), text)

    def arguments(self) -> dict[str, Any]:
        """What ``asyncpg.connect`` has to know. Without a password it looks into ~/.pgpass."""
        found: dict[str, Any] = {name: getattr(self, name) for name in ("user", "host", "port", "database")}
        if self.password is not None:
            found["password"] = self.password
        if self.parameters:
            found["dsn"] = f"postgresql://?{self.parameters}"
        return found
