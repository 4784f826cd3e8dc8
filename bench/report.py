"""Medians, ratios, and the tables of docs/performance.md."""

from __future__ import annotations

import datetime
import json
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from . import machine
from .scenarios import Numbers, Results

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
DOCUMENT = machine.HERE.parent / "docs" / "performance.md"
PEERS = ("nginx", "HAProxy")


@dataclass
class Report:
    """All results of one run, by scenario."""

    results: dict[str, Results] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps({"results": self.results, "notes": self.notes}, indent=1))


def medians(rounds: list[Numbers]) -> Numbers:
    return {key: statistics.median(numbers[key] for numbers in rounds) for key in rounds[0]}


def best_peer(values: dict[str, float], smaller_is_better: bool = True) -> float:
    """The better of the peers in their plain set-up; the only reference there is when we run without them."""
    candidates = [value for label, value in values.items() if label in PEERS] or list(values.values())
    return min(candidates) if smaller_is_better else max(candidates)


def ratios(results: Results, columns: Iterable[tuple[str, str, bool]]) -> list[list[str]]:
    """One row per proxy; each column (key, title, smaller is better) divided by the better peer's median."""
    columns = list(columns)
    middle = {label: medians(rounds) for label, rounds in results.items()}
    rows = [["proxy", *(title for _, title, _ in columns)]]
    for label, numbers in middle.items():
        row = [label]
        for key, _, smaller in columns:
            reference = best_peer({name: values[key] for name, values in middle.items()}, smaller)
            row.append(f"{numbers[key] / reference:.2f}" if reference else "–")
        rows.append(row)
    return rows


def table(rows: list[list[str]]) -> str:
    head, *body = rows
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


CLOSED_LOOP = [
    ("cpu", "CPU per request", True),
    ("rate", "requests/s", False),
    ("p50", "p50", True),
    ("p99", "p99", True),
]
LATENCY = [("p50", "p50", True), ("p99", "p99", True)]
TITLES: dict[str, str] = {
    "plain": "GET with 5 headers, 128-byte answer, 64 connections",
    "large": "100 KB answers, 64 connections",
    "close": "New connection for every request, 64 connections",
    "low": "GET, 8 connections",
    "half": "Latency at half load: the same paced rate for all, 64 connections",
    "tls": "GET over TLS 1.3 (ECDSA P-256 certificate), 64 connections",
    "tls-large": "100 KB answers over TLS 1.3, 64 connections",
    "handshakes": "TLS 1.3 handshake and one GET on a new connection for every request, 64 connections",
    "observed": "Observed: all write access logs; the gateway also traces 0.1 and is scraped each second",
    "logged": "The access log of the gateway on and off",
    "idle": "Memory of 1,000 idle client connections",
    "reload": "All routes change, by a reload of the file, under half load on 64 keep-alive connections",
    "api": "One route of 10,000 changes, through the admin API, under half load",
    "rollout": "A deployment is moved by hand, then rolled back, under half load (effective: the call)",
}


def tables(report: Report) -> str:
    parts = []
    for name, results in report.results.items():
        if not results:
            continue
        if name in ("plain", "large", "close", "low", "tls", "tls-large", "handshakes"):
            rows = ratios(results, CLOSED_LOOP)
            rows = with_control(rows, results)
        elif name == "observed":
            rows = ratios(results, CLOSED_LOOP)
        elif name == "logged":
            rows = logged_rows(results)
        elif name == "half":
            rows = ratios(results, LATENCY)
        elif name == "idle":
            rows = idle_rows(results)
        else:
            rows = change_rows(results)
        parts.append(f"### {TITLES[name]}\n\n{table(rows)}")
    return "\n\n".join(parts)


def with_control(rows: list[list[str]], results: Results) -> list[list[str]]:
    """Add what else of a proxy ran meanwhile (our control process), in parts of the same reference."""
    middle = {label: medians(rounds) for label, rounds in results.items()}
    if not any(numbers["control"] for numbers in middle.values()):
        return rows
    reference = best_peer({label: numbers["cpu"] for label, numbers in middle.items()})
    rows[0].insert(2, "CPU of other processes")
    for row in rows[1:]:
        row.insert(2, f"{middle[row[0]]['control'] / reference:.2f}")
    return rows


def logged_rows(results: Results) -> list[list[str]]:
    """The first row is the reference: without a log."""
    middle = [(label, medians(rounds)) for label, rounds in results.items()]
    reference = middle[0][1]
    rows = [["", "CPU of the worker per request", "requests/s", "lines/s", "not logged", "CPU per line"]]
    for label, numbers in middle:
        cpu, rate = numbers["cpu"] / reference["cpu"], numbers["rate"] / reference["rate"]
        shown = f"{numbers['line_us']:.2f} µs" if numbers["lines"] else "–"
        counts = (f"{numbers[key]:,.0f}" for key in ("lines", "dropped"))
        rows.append([label, f"{cpu:.2f}", f"{rate:.2f}", *counts, shown])
    return rows


def idle_rows(results: Results) -> list[list[str]]:
    rows = [["proxy", "KB per connection (PSS)", "all processes, MB (PSS)"]]
    for label, rounds in results.items():
        numbers = medians(rounds)
        rows.append([label, f"{numbers['idle_kb']:.2f}", f"{numbers['total_mb']:.1f}"])
    return rows


def change_rows(results: Results) -> list[list[str]]:
    rows = [
        [
            "proxy",
            "changes",
            "requests",
            "failed",
            "connections closed",
            "effective after, median",
            "worst",
            "p99 during ÷ steady",
        ]
    ]
    for label, rounds in results.items():
        numbers = medians(rounds)
        rows.append(
            [
                label,
                *(f"{numbers[key]:,.0f}" for key in ("changes", "requests", "failed", "closed")),
                f"{numbers['effective_ms']:.0f} ms",
                f"{numbers['effective_worst_ms']:.0f} ms",
                f"{numbers['during'] / numbers['steady']:.2f}",
            ]
        )
    return rows


def heading(rounds: int, proxies: Iterable[str]) -> str:
    versions = ", ".join(f"{name} {machine.version_of(name)}" for name in ("nginx", "haproxy", "wrk"))
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return (
        f"Measured {today} on {machine.describe()}; {versions}. Medians of {rounds} alternating rounds.\n"
        "Unless a unit is given, a number is the ratio to the better of nginx and HAProxy in their plain "
        f"set-up in the same run: below 1.00 is less than theirs. Measured: {', '.join(proxies)}."
    )


def write(text: str, document: Path = DOCUMENT) -> None:
    """Put ``text`` between the markers of the document."""
    before, _, rest = document.read_text().partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise machine.BenchError(f"{document} has no {BEGIN} … {END}")
    document.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
