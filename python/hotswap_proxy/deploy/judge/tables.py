"""The tables of docs/judge.md: ``python -m hotswap_proxy.deploy.judge.tables [PROCESSES]``.

Markdown on standard output; the same numbers each time, for every row has its own seed.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterable, Sequence
from multiprocessing import Pool
from random import Random
from typing import NamedTuple

from ..record import Thresholds
from .chance import coarse, log_normal, longer
from .forecast import spread
from .simulate import Outcome, Rollout, Step, Version, roll_out

PLAN = (Step(0.1, 300.0), Step(0.5, 300.0), Step(1.0, 300.0))
HELD = (Step(0.1, 86_400.0),)  # the first phase, and nobody promotes
LATENCY = coarse(log_normal(20_000, 60_000))  # median 20 ms, p99 60 ms


class Row(NamedTuple):
    """Rollouts of one kind. ``rate``: requests/s of both arms; the error rates 0–1; ``times``: canary's
    latencies, None: latency is left out.
    """

    rate: float
    stable: float
    canary: float
    runs: int
    times: float | None = None
    steps: tuple[Step, ...] = PLAN
    growth: float = 0.0
    horizon: float = 9000.0
    confidence: float = 0.99


def outcomes(row: Row) -> list[Outcome]:
    """Simulated with a seed of the row's own."""
    random = Random(zlib.crc32(repr(row).encode()))  # noqa: S311  for a simulation
    thresholds = Thresholds(confidence=row.confidence)
    rollout = Rollout(row.rate, row.steps, thresholds, row.growth, row.horizon)
    fast = None if row.times is None else LATENCY
    slow = None if row.times is None else longer(LATENCY, row.times)
    stable, canary = Version(row.stable, fast), Version(row.canary, slow)
    return [roll_out(random, rollout, stable, canary) for _ in range(row.runs)]


def part(found: Sequence[Outcome], kind: str) -> float:
    return sum(outcome.kind == kind for outcome in found) / len(found)


# --- the tables -----------------------------------------------------------------------------------

ALARMS = (
    *(Row(100, rate, rate, 300) for rate in (0.0, 0.001, 0.01, 0.1, 0.5)),
    Row(20, 0.01, 0.01, 300),
    Row(1000, 0.01, 0.01, 300),
    Row(100, 0.01, 0.01, 60, 1.0, growth=0.02),
    Row(100, 0.01, 0.03, 300),
    Row(100, 0.01, 0.06, 300, steps=HELD, growth=0.02, horizon=7200),
    Row(100, 0.1, 0.1, 300, confidence=0.5),
)
HARMS = tuple(
    Row(rate, 0.01, min(1.0, 0.01 + points), 100, steps=HELD, growth=0.02, horizon=86_400)
    for points in (0.06, 0.08, 0.15, 0.3, 1.0)
    for rate in (20, 100, 1000)
)
SLOW = tuple(
    Row(rate, 0.01, 0.01, 60, times, HELD, 0.02, 86_400)
    for times in (2.0, 3.0, 10.0)
    for rate in (20, 100, 1000)
)
PASSES = tuple(
    Row(100, error, error, runs, times, (Step(0.1, 1.0),), 0.02, 86_400)
    for error in (0.0, 0.01, 0.03)
    for times, runs in ((None, 200), (1.0, 60))
)


def alarms(found: Iterable[tuple[Row, list[Outcome]]]) -> Iterable[str]:
    yield "| stable | canary | requests/s | latency | confidence | rollouts | rolled back | completed |"
    yield "|---|---|---|---|---|---|---|---|"
    for row, got in found:
        cells = (
            f"{row.stable:.1%}",
            f"{row.canary:.1%}",
            f"{row.rate:g}",
            "judged" if row.times else "",
            f"{row.confidence:g}",
            f"{row.runs:,}",
            f"{part(got, 'Failed'):.2%}",
            f"{part(got, 'Completed'):.1%}",
        )
        yield f"| {' | '.join(cells)} |"


def harms(found: Iterable[tuple[Row, list[Outcome]]]) -> Iterable[str]:
    yield "| canary | requests/s | found | seconds | requests of canary |"
    yield "|---|---|---|---|---|"
    for row, got in found:
        bad = [outcome for outcome in got if outcome.kind == "Failed"]
        what = f"{row.canary:.0%} fail" if row.times is None else f"latency × {row.times:g}"
        seconds = _two([outcome.seconds for outcome in bad])
        requests = _two([outcome.exposed for outcome in bad])
        yield f"| {what} | {row.rate:g} | {part(got, 'Failed'):.0%} | {seconds} | {requests} |"


def passes(found: Iterable[tuple[Row, list[Outcome]]]) -> Iterable[str]:
    yield "| both arms | latency | requests of canary until Pass | requests/s for that in 5 minutes at 10 % |"
    yield "|---|---|---|---|"
    for row, got in found:
        requests = [outcome.exposed for outcome in got if outcome.kind == "Completed"]
        worst = spread(requests)
        needed = "" if worst is None else f"{worst.p95 / 300 / 0.1:.0f}"
        judged = "judged" if row.times else ""
        yield f"| {row.stable:.0%} fail | {judged} | {_two(requests)} | {needed} |"


def _two(values: Sequence[float]) -> str:
    found = spread(values)
    return "" if found is None else f"{found.median:,.0f} / {found.p95:,.0f}"


def main() -> None:
    tables = (
        ("False alarms, and harms below the threshold", ALARMS, alarms),
        ("Errors: until it is rolled back", HARMS, harms),
        ("Latency: until it is rolled back", SLOW, harms),
        ("Until Pass", PASSES, passes),
    )
    with Pool(int(sys.argv[1]) if len(sys.argv) > 1 else None) as pool:
        for title, rows, write in tables:
            print(f"### {title}\n", flush=True)
            found = zip(rows, pool.map(outcomes, rows, chunksize=1), strict=True)
            print("\n".join(write(found)), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
