"""Where traces go, as settings say it: endpoint and headers of OTLP over HTTP, and the variables that every
program with OpenTelemetry knows them by.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

TRACES_PATH = "/v1/traces"
# Names of header fields (RFC 9110 section 5.6.2).
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FRAMING = frozenset({"content-type", "content-length", "content-encoding", "host", "transfer-encoding"})
# Secrets, whatever they are called.
SECRET_VARIABLES = frozenset({"OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"})


def check_endpoint(text: str) -> None:
    """ValueError says what is wrong with the URL. It is not quoted: what is wrong may be a password in it."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise ValueError("it is not a URL; write http://host:4318") from None
    if url.scheme not in ("http", "https"):
        raise ValueError("it must begin with http:// or https:// (OTLP over HTTP, not gRPC)")
    if url.username is not None or url.password is not None:
        raise ValueError("it has a user name or password; give them with --otlp-headers")
    if not url.hostname or port == 0:
        raise ValueError("it is not a URL; write http://host:4318")
    if url.fragment or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("it has characters that a URL cannot have")


def traces_url(endpoint: str) -> str:
    """Where to POST: ``http://host:4318`` → ``http://host:4318/v1/traces``; a path is taken as it is."""
    url = urlsplit(endpoint)
    return endpoint if url.path.rstrip("/") else url._replace(path=TRACES_PATH).geturl()


def parse_headers(text: str) -> dict[str, str]:
    """``name=value,name=value``, percent-encoded where it has to be. ValueError does not quote values."""
    found: dict[str, str] = {}
    for part in text.split(","):
        if not part.strip():
            continue
        name, equals, value = part.partition("=")
        name, value = name.strip().lower(), unquote(value.strip())
        if not equals or not _TOKEN.fullmatch(name):
            raise ValueError("an item is not NAME=VALUE")
        if name in _FRAMING:
            raise ValueError(f"{name} is not for you to set")
        if not value.isascii() or not value.isprintable():
            raise ValueError(f"the value of {name} has characters that a header cannot have")
        found[name] = value
    return found


def parse_attributes(text: str) -> dict[str, str]:
    """``OTEL_RESOURCE_ATTRIBUTES``: as its specification wants it, one bad item spoils all of it."""
    found: dict[str, str] = {}
    for part in text.split(","):
        if not part.strip():
            continue
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise ValueError("an item is not NAME=VALUE")
        found[unquote(name.strip())] = unquote(value.strip())
    return found


def with_opentelemetry(environ: Mapping[str, str]) -> Mapping[str, str]:
    """The same with OpenTelemetry's own variables as ``HOTSWAP_…``, where those are not set."""
    found: dict[str, str] = {}
    if name := environ.get("OTEL_SERVICE_NAME"):
        found["HOTSWAP_SERVICE_NAME"] = name
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() != "true":
        if traces := environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
            found["HOTSWAP_OTLP_ENDPOINT"] = traces
        elif endpoint := environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):  # the common part of all signals' URLs
            found["HOTSWAP_OTLP_ENDPOINT"] = endpoint.rstrip("/") + TRACES_PATH
    if environ.get("HOTSWAP_OTLP_ENDPOINT") or "HOTSWAP_OTLP_ENDPOINT" in found:
        given = environ.get("OTEL_EXPORTER_OTLP_TRACES_HEADERS")
        if headers := given or environ.get("OTEL_EXPORTER_OTLP_HEADERS"):
            found["HOTSWAP_OTLP_HEADERS"] = headers
    return found | {name: value for name, value in environ.items() if value or name not in found}
