"""The URL of a Redis server, as ``--redis-url`` has it. The client is imported when it is used."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

SCHEMES = ("redis", "rediss", "unix")
FORM = "redis://:password@host:6379/0, rediss://… for TLS, or unix:///path"
_PARAMETERS = ("db", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


def check_redis_url(text: str) -> None:
    """ValueError says what is wrong, without any part of ``text``: it may be the password."""
    try:
        parts = urlsplit(text)
        port = parts.port
        parameters = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
    except ValueError:  # whose message quotes what it could not read
        raise ValueError(
            f"it cannot be read; write {FORM}, the special characters of a password as %XX"
        ) from None
    if parts.scheme not in SCHEMES:
        raise ValueError(f"write {FORM}")
    if parts.scheme == "unix":
        if not parts.path.startswith("/"):
            raise ValueError("there is no path of a socket; write unix:///path")
    elif not parts.hostname or port == 0:
        raise ValueError(f"there is no host; write {FORM}")
    elif parts.path.strip("/") and not parts.path.strip("/").isdigit():
        raise ValueError("what comes after the host is the number of a database")
    if not parameters.keys() <= set(_PARAMETERS) or parts.fragment:
        raise ValueError(f"a parameter is unknown; there are {', '.join(_PARAMETERS)}")


def shown_redis_url(text: str) -> str:
    """Without user, password and parameters."""
    try:
        parts = urlsplit(text)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{host}{port}{parts.path}"
    except ValueError:
        return "redis"
