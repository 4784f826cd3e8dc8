"""What a node has before its workers: the store, and its configuration compiled."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass

from hotswap_proxy import _core
from hotswap_proxy.control.applying import Applier
from hotswap_proxy.control.configuration import Configuration
from hotswap_proxy.control.handover import standing
from hotswap_proxy.control.handover.predecessor import Predecessor
from hotswap_proxy.control.health.alerts import Alerts
from hotswap_proxy.control.health.checker import Checker
from hotswap_proxy.control.jwks import KeyKeeper
from hotswap_proxy.control.resolver import Resolver, url_rules
from hotswap_proxy.fleet import opening
from hotswap_proxy.fleet.lastgood import LastGood
from hotswap_proxy.settings import Settings
from hotswap_proxy.store import Store


@dataclass(slots=True)
class Loaded:
    """``password``: of an administrator who was made just now."""

    store: Store
    alerts: Alerts
    last_good: LastGood | None
    checker: Checker
    catalog: _core.Catalog
    keys: KeyKeeper
    configuration: Configuration
    password: str | None


async def load(
    stack: AsyncExitStack, settings: Settings, node: _core.Node, predecessor: Predecessor | None
) -> Loaded:
    """Read the store, or what was live last, and compile it. GatewayError if neither can be used."""
    store = Store(settings)
    stack.push_async_callback(store.close)
    alerts = Alerts(
        settings.alert_webhooks,
        {"nodeId": settings.node_id, "environment": settings.environment},
        secret=settings.webhook_secret,
    )
    last_good = LastGood(settings.data_dir, settings.environment) if settings.database_url else None
    if last_good is not None:
        last_good.hold(predecessor is not None)
        stack.push_async_callback(last_good.close)
    checker = Checker(node, alerts.send, settings.tls_files)
    catalog = _core.Catalog(node)
    resolver = Resolver(url_rules(settings))
    keys = KeyKeeper(url_rules(settings), resolver)
    stack.push_async_callback(keys.stop)
    configuration = Configuration(
        store,
        catalog,
        settings,
        resolver=resolver,
        applier=Applier(settings),
        health=checker,
        keys=keys,
        keep=last_good.note if last_good is not None else None,
    )
    if predecessor is not None:
        standing.take(predecessor.bequest.standing, node, checker.registry)
    await opening.begin(store, configuration, last_good)
    alerts.start()
    stack.push_async_callback(alerts.stop)
    stack.push_async_callback(checker.stop)
    password = None
    if predecessor is None:  # else they are its duties still
        # Before there are workers: with luck the first answers are here when the first requests come.
        checker.start()
        if not configuration.remembered:
            password = await store.users.ensure_first_admin(settings)
    return Loaded(store, alerts, last_good, checker, catalog, keys, configuration, password)
