"""What ``GET /metrics`` answers: the node's figures, put together when a scrape begins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hotswap_proxy import __version__
from hotswap_proxy.observe import histogram as hist
from hotswap_proxy.observe.exposition import as_openmetrics, joined
from hotswap_proxy.observe.figures import NodeFigures
from hotswap_proxy.observe.metrics import render
from hotswap_proxy.observe.rollouts import Rollouts

if TYPE_CHECKING:
    from hotswap_proxy.control.parts import Parts

BOUNDS = list(zip(hist.LE_INDEXES, hist.bounds(hist.MICROSECONDS), strict=True))


class Scraping:
    def __init__(
        self,
        parts: Parts,
        rollouts: Rollouts,
        anomalies: Callable[[], Mapping[tuple[str, str], int]] = dict,
    ) -> None:
        self._parts = parts
        self._rollouts = rollouts
        self._anomalies = anomalies

    def pieces(self, *, openmetrics: bool = False) -> Iterator[bytes]:
        """The exposition. The figures are taken now; the pieces may be made in another thread."""
        parts = self._parts
        rendered = render(parts.node, parts.catalog.scrape(BOUNDS), self._figures())
        return joined(as_openmetrics(rendered) if openmetrics else rendered)

    def _figures(self) -> NodeFigures:
        parts = self._parts
        settings, configuration, status = parts.settings, parts.configuration, parts.status
        checked = parts.checker.registry.counts()
        fleet = status.fleet
        status.note_cpu()
        return NodeFigures(
            node_id=settings.node_id,
            version=__version__,
            environment=settings.environment,
            started=status.started_at.timestamp(),
            routes=configuration.routes,
            backends=configuration.backends,
            workers=settings.workers,
            workers_ready=status.workers_ready,
            replaced_workers=parts.supervisor.replaced,
            backends_healthy=configuration.backends - checked["unhealthy"],
            backends_unhealthy=checked["unhealthy"],
            health_checks=dict(parts.checker.results),
            health_flips=dict(parts.checker.flips),
            refused=status.refusals(),
            certificates=self._ends_of_certificates(),
            outliers=status.outliers,
            revision=configuration.revision,
            behind=fleet.behind if fleet is not None else False,
            fleet=Counter(str(node["status"]) for node in status.nodes()),
            store_up=fleet.store_up if fleet is not None else None,
            redis_up=fleet.redis_up if fleet is not None else None,
            anomalies=self._anomalies(),
            deployments=self._rollouts.pieces,
            journal=self._journal(),
            cpu_seconds=status.cpu.seconds(),
            processes=status.processes(),
            **self._limits(),
        )

    def _journal(self) -> Iterator[str]:
        journaling = self._parts.journaling
        if journaling is not None:
            yield from journaling.draining.metrics()
            if journaling.tracing is not None:
                yield from journaling.tracing.metrics()

    def _limits(self) -> dict[str, Any]:
        limits = self._parts.status.limits
        if limits is None:
            return {}
        return {
            "limit_nodes": limits.nodes,
            "limits_apart": limits.mode == "apart",
            "limit_exchanges": asdict(limits.counts),
        }

    def _ends_of_certificates(self) -> dict[str, int]:
        """By names. Of several for the same names (kinds of keys) the first that ends counts."""
        bundle = self._parts.status.certificates
        ends: dict[str, int] = {}
        for one in bundle.certificates if bundle is not None else ():
            names = ", ".join(one.names)
            ends[names] = min(one.not_after, ends.get(names, one.not_after))
        return ends
