"""Writes the Prometheus text format, version 0.0.4, a piece at a time.

prometheus-client would build a Metric with a Sample object for every line before writing one; with 10,000
routes a scrape would cost several hundred megabytes for a moment, and its import 11 MB for good. Tests read
what this writes with its parser.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from hotswap_proxy.observe import histogram as hist

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = dict[str, str]
Sample = tuple[Labels, float | int]


def escape(value: str) -> str:
    """A label's value between its quotes."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def labelled(labels: Labels) -> str:
    """``name="value",…`` without the braces."""
    return ",".join(f'{name}="{escape(value)}"' for name, value in labels.items())


def family(name: str, kind: str, text: str, samples: Iterable[Sample]) -> Iterator[str]:
    """A counter's or gauge's lines; the header comes even without samples, so that the metric is known."""
    yield f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
    for labels, value in samples:
        yield f"{name}{{{labelled(labels)}}} {value}\n" if labels else f"{name} {value}\n"


def histogram_family(
    name: str, text: str, series: Iterable[tuple[Labels, Sequence[int]]], unit: float = hist.MICROSECONDS
) -> Iterator[str]:
    """A histogram's lines in seconds, from counters of :mod:`hotswap_proxy.observe.histogram` in ``unit``."""
    yield f"# HELP {name} {text}\n# TYPE {name} histogram\n"
    bounds = [f"{bound * unit:.9g}" for bound in hist.LE]
    for labels, counts in series:
        inner = labelled(labels)
        comma = "," if inner else ""
        braces = f"{{{inner}}}" if inner else ""
        total = sum(counts)
        lines = [
            f'{name}_bucket{{{inner}{comma}le="{bound}"}} {count}\n'
            for bound, count in zip(bounds, hist.cumulative(counts), strict=True)
        ]
        lines.append(f'{name}_bucket{{{inner}{comma}le="+Inf"}} {total}\n')
        lines.append(f"{name}_sum{braces} {hist.total_units(counts) * unit:.9g}\n")
        lines.append(f"{name}_count{braces} {total}\n")
        yield "".join(lines)
