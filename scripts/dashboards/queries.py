"""PromQL that several panels share. Durations are seconds, ratios 0 to 1.

`$node` and `$route` are chosen by name; counters carry neither, so they are joined with the series that do
(`gateway_node_info`, `gateway_route_info`; docs/metrics.md).
"""

from __future__ import annotations

NODES = '* on (job, instance) group_left (node) gateway_node_info{node=~"$node"}'
ROUTES = '* on (job, instance, route) group_left (name) gateway_route_info{name=~"$route"}'
WINDOW = "[$__rate_interval]"


def rate(series: str, *joins: str) -> str:
    """Increase a second of a counter, of the chosen nodes (and routes)."""
    return " ".join((f"rate({series}{WINDOW})", *joins, NODES))


def gauge(series: str) -> str:
    """A gauge of the chosen nodes."""
    return f"{series} {NODES}"


def total(inner: str, *by: str) -> str:
    return f"sum by ({', '.join(by)}) ({inner})" if by else f"sum({inner})"


def error_ratio(*joins: str, by: tuple[str, ...] = ()) -> str:
    """Share of the requests that failed: answered 5xx, or not to the end."""
    failed = total(rate("gateway_requests_failed_total", *joins), *by)
    return f"{failed} / {total(rate('gateway_request_duration_seconds_count', *joins), *by)}"


def quantile(q: float, histogram: str, *joins: str, by: tuple[str, ...] = ()) -> str:
    buckets = total(rate(f"{histogram}_bucket", *joins), *by, "le")
    return f"histogram_quantile({q}, {buckets})"
