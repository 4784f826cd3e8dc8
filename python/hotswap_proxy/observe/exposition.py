"""Writes the Prometheus text format, version 0.0.4, a piece at a time; and OpenMetrics 1.0 from it.

prometheus-client would build a Metric with a Sample object for every line before writing one; with 10,000
routes a scrape would cost several hundred megabytes for a moment, and its import 11 MB for good. Tests read
what this writes with its parser, and promtool and Prometheus do.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Sequence

from hotswap_proxy.observe import histogram as hist

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PIECE = 64 * 1024  # bytes of an answer that are written at once
_FAST = 1  # zlib's level: the text repeats itself so much that more effort buys little
_GZIP = 31  # zlib's name for that header
# Ahead of a counter's lines. OpenMetrics names a family without the suffix that its samples have.
_COUNTER = re.compile(rb"\A# HELP (\w+)_total (.*)\n# TYPE \1_total counter\n\Z")
Labels = dict[str, str]
Sample = tuple[Labels, float | int]


def escape(value: str) -> str:
    """A label's value between its quotes."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def labelled(labels: Labels) -> str:
    """``name="value",…`` without the braces."""
    return ",".join(f'{name}="{escape(value)}"' for name, value in labels.items())


def header(name: str, kind: str, text: str) -> str:
    """What comes before a family's lines, and is a piece of its own."""
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


def family(name: str, kind: str, text: str, samples: Iterable[Sample]) -> Iterator[str]:
    """A counter's or gauge's lines; the header comes even without samples, so that the metric is known."""
    yield header(name, kind, text)
    for labels, value in samples:
        yield f"{name}{{{labelled(labels)}}} {value}\n" if labels else f"{name} {value}\n"


def histogram_family(
    name: str, text: str, counts: Sequence[int], unit: float = hist.MICROSECONDS
) -> Iterator[str]:
    """A histogram's lines in seconds, from counters of :mod:`hotswap_proxy.observe.histogram` in ``unit``."""
    yield header(name, "histogram", text)
    for bound, count in zip(hist.bounds(unit), hist.cumulative(counts), strict=True):
        yield f'{name}_bucket{{le="{bound}"}} {count}\n'
    total = sum(counts)
    yield f'{name}_bucket{{le="+Inf"}} {total}\n'
    yield f"{name}_sum {hist.total_units(counts) * unit:.9g}\n"
    yield f"{name}_count {total}\n"


def as_openmetrics(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same in the other format: it names counters differently and has an end."""
    for piece in pieces:
        yield _COUNTER.sub(rb"# HELP \1 \2\n# TYPE \1 counter\n", piece)
    yield b"# EOF\n"


def joined(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of some :data:`PIECE`."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= PIECE:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


def compressed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, gzip: a tenth to a thirtieth of them."""
    packer = zlib.compressobj(_FAST, zlib.DEFLATED, _GZIP)
    for piece in pieces:
        if packed := packer.compress(piece):
            yield packed
    yield packer.flush()


def wants_openmetrics(accept: str) -> bool:
    """Whether a scraper's Accept prefers OpenMetrics 1.0 to the text format."""
    openmetrics = text = 0.0
    for media, parameters in _listed(accept):
        if media == "application/openmetrics-text" and parameters.get("version", "1.0.0") == "1.0.0":
            openmetrics = max(openmetrics, _quality(parameters))
        elif media == "text/plain":
            text = max(text, _quality(parameters))
    return openmetrics > 0 and openmetrics >= text


def takes_gzip(accept_encoding: str) -> bool:
    """Whether a client takes gzip, by its Accept-Encoding."""
    return any(coding == "gzip" and _quality(found) > 0 for coding, found in _listed(accept_encoding))


def _listed(field: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The items of a list such as Accept, each with its parameters (RFC 9110, 12.5)."""
    for item in field.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        pairs = (parameter.partition("=") for parameter in parameters)
        yield name, {key.strip(): value.strip() for key, _, value in pairs}


def _quality(parameters: dict[str, str]) -> float:
    try:
        return float(parameters.get("q", "1"))
    except ValueError:
        return 0.0
