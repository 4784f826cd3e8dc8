"""Checks a declarative file without a gateway: same comparison, same compiler, an empty store in memory."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import create_engine

from hotswap_proxy import _core, configfile
from hotswap_proxy.control import declarative
from hotswap_proxy.control.resolver import url_rules
from hotswap_proxy.control.tls.files import TlsFiles, with_files
from hotswap_proxy.errors import GatewayError, from_core
from hotswap_proxy.settings import Settings
from hotswap_proxy.store import tables

# Host names are looked up by the gateway that will use them; here any address does.
_SOME_ADDRESS = ["127.0.0.1:1"]


def check(file: Path, settings: Settings) -> tuple[int, int]:
    """(routes, backends) of a file; GatewayError when a gateway with ``settings`` would refuse it."""
    rules = url_rules(settings)
    document = configfile.load(file, rules, stdin=True)
    engine = create_engine("sqlite://")
    tables.metadata.create_all(engine)
    with engine.connect() as connection:
        change = declarative.compare(connection, document, settings, prune=True)
    catalog = _core.Catalog(_core.Node(1))
    try:
        payload = change.payload(dict.fromkeys(change.names, _SOME_ADDRESS))
        files = TlsFiles(settings.tls_files).renew()
        catalog.stage(with_files(payload, files.texts) if files else payload).discard()
    except _core.ConfigError as error:
        raise from_core(error.problems, change.locate) from error
    return len(document.routes), len(document.backends)


__all__ = ["GatewayError", "check"]
