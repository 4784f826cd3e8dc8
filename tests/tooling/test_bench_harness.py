"""The parts of the benchmark whose mistakes would be believed: parsing, medians, ratios, what is charged."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from harness.wait import eventually

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench import gateway, load, machine, observed, report, scenarios  # noqa: E402
from bench.gateway import Gateway  # noqa: E402
from bench.proxies import Backends, HAProxy, Nginx  # noqa: E402
from loadtest.__main__ import COMPARED, Row, judge  # noqa: E402

WRK = """Running 3s test @ http://127.0.0.1:1/
  1 threads and 64 connections
  Latency Distribution
     50%    1.25ms
     75%    1.50ms
     90%    2.00ms
     99%  950.00us
  30012 requests in 3.00s, 5.00MB read
Requests/sec:  10004.00
Transfer/sec:      1.67MB
"""


def test_wrk_output_is_read_with_its_units() -> None:
    assert load.parse_wrk(WRK) == load.WrkResult(
        requests=30012, errors=0, rate=10004.0, p50=1250.0, p99=950.0
    )


def test_wrk_errors_are_counted() -> None:
    text = WRK + "  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 5\n"
    assert load.parse_wrk(text).errors == 15


def test_unreadable_wrk_output_is_an_error() -> None:
    with pytest.raises(machine.BenchError, match="unable to connect"):
        load.parse_wrk("unable to connect to 127.0.0.1")


def test_ratios_are_to_the_better_plain_peer() -> None:
    results = {
        "nginx": [{"cpu": 12.0}, {"cpu": 10.0}, {"cpu": 11.0}],
        "HAProxy": [{"cpu": 20.0}] * 3,
        "nginx, 10,000 routes": [{"cpu": 5.5}] * 3,  # never the reference
        "hotswap-proxy": [{"cpu": 9.9}] * 3,
    }
    rows = report.ratios(results, [("cpu", "CPU", True)])
    assert rows == [
        ["proxy", "CPU"],
        ["nginx", "1.00"],
        ["HAProxy", "1.82"],
        ["nginx, 10,000 routes", "0.50"],
        ["hotswap-proxy", "0.90"],
    ]


def test_rates_are_better_when_larger() -> None:
    results = {"nginx": [{"rate": 100.0}], "HAProxy": [{"rate": 200.0}]}
    assert report.ratios(results, [("rate", "rate", False)])[1:] == [["nginx", "0.50"], ["HAProxy", "1.00"]]


def test_report_is_written_between_the_markers(tmp_path: Path) -> None:
    document = tmp_path / "p.md"
    document.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.write("new", document)
    assert document.read_text() == f"before\n{report.BEGIN}\nnew\n{report.END}\nafter\n"
    document.write_text("no markers")
    with pytest.raises(machine.BenchError):
        report.write("new", document)


def test_performance_document_has_the_markers() -> None:
    text = report.DOCUMENT.read_text()
    assert text.count(report.BEGIN) == text.count(report.END) == 1


def test_cpu_of_a_busy_child_is_charged() -> None:
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        before = machine.cpu_ns([busy.pid])
        eventually(lambda: machine.cpu_ns([busy.pid]) - before > 20_000_000)
        assert busy.pid in machine.descendants(os.getpid())
    finally:
        busy.kill()
        busy.wait()


def test_gateway_is_charged_with_grandchildren_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tree = {1: [2], 2: [3, 4], 3: [], 4: []}  # control → spawner → two workers
    monkeypatch.setattr(machine, "children", lambda pid: tree[pid])
    monkeypatch.setattr(Gateway, "main", property(lambda _: SimpleNamespace(pid=1)))
    tested = Gateway(Backends(1, 2), tmp_path, 1)
    assert tested.charged() == [3, 4]
    assert tested.uncharged() == [1, 2]


def test_an_observed_gateway_is_charged_with_all_its_processes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The control process writes the lines."""
    tree = {1: [2], 2: [3], 3: []}
    monkeypatch.setattr(machine, "children", lambda pid: tree[pid])
    monkeypatch.setattr(Gateway, "main", property(lambda _: SimpleNamespace(pid=1)))
    tested = observed.ObservedGateway(Backends(1, 2), tmp_path, 1)
    assert (tested.charged(), tested.uncharged()) == ([1, 2, 3], [])
    assert tested.label == "hotswap-proxy"
    assert {"--access-log", "--otlp-endpoint", "--trace-sample"} <= set(tested.command())


def test_peers_log_in_the_observed_scenario_only(tmp_path: Path) -> None:
    backends = Backends(1, 2)
    for kind, file, shown in (
        (Nginx, "nginx.conf", "access_log off;"),
        (observed.LoggingNginx, "nginx.conf", f"access_log {tmp_path}/access.log;"),
        (
            observed.BufferedNginx,
            "nginx.conf",
            f"access_log {tmp_path}/access.log combined buffer=64k flush=1s;",
        ),
        (observed.LoggingHAProxy, "haproxy.cfg", "log ring@lines local0"),
    ):
        kind(backends, tmp_path, 1).configure("a")
        assert shown in (tmp_path / file).read_text()
    HAProxy(backends, tmp_path, 1).configure("a")
    assert "log global" not in (tmp_path / "haproxy.cfg").read_text()


def test_the_access_log_is_compared_with_none() -> None:
    off = {"cpu": 10.0, "rate": 50_000.0, "lines": 0.0, "dropped": 0.0, "line_us": 0.0}
    on = {"cpu": 10.5, "rate": 49_000.0, "lines": 49_000.0, "dropped": 3.0, "line_us": 1.25}
    assert report.logged_rows({"off": [off], "on": [on]})[1:] == [
        ["off", "1.00", "1.00", "0", "0", "–"],
        ["on", "1.05", "0.98", "49,000", "3", "1.25 µs"],
    ]


def test_a_debug_build_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "find_spec", lambda _: object())
    monkeypatch.setattr(gateway, "import_module", lambda _: SimpleNamespace(BUILD_PROFILE="debug"))
    with pytest.raises(machine.BenchError, match="debug build"):
        gateway.available()


def samples(*rows: tuple[float, float, str, int]) -> load.StrictResult:
    return load.StrictResult([load.Sample(*row) for row in rows])


def test_strict_result_tells_failed_from_closed() -> None:
    result = samples((0, 1, "a", 0), (0, 1, "", 1), (0, 1, "a", 3), (0, 0, "", 5), (0, 0, "", 6))
    assert (result.requests, result.failed, result.closed) == (3, 2, 3)
    assert result.outcomes()["closed idle"] == 1


def test_a_change_is_effective_when_the_old_answers_end() -> None:
    client = SimpleNamespace(
        result=samples((9.0, 10, "a", 0), (10.05, 10, "a", 0), (10.1, 30, "b", 0), (12.5, 10, "a", 0))
    )
    numbers = scenarios.changes(client, [(10.0, "b")], begin=8.0, window=2.0)
    assert numbers["effective_ms"] == pytest.approx(50.0)
    assert numbers["steady"] == 10


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_client_and_backend_agree(tmp_path: Path) -> None:
    process = subprocess.Popen([str(machine.compile_c("backend")), str(port := machine.free_port()), "a"])
    try:
        machine.wait_for(port, process, tmp_path / "log")
        with load.StrictClient(port, connections=8, seconds=0.5, rate=1000, routes=10) as client:
            pass
        assert client.result.failed == client.result.closed == 0
        assert 300 < client.result.requests <= 520
        assert {sample.backend for sample in client.result.samples} == {"a"}
    finally:
        process.kill()
        process.wait()


def rows(through: float, direct: float, failures: int = 0) -> list[Row]:
    found = [Row("admin PUT route", 1, 0, 1, 1)]
    for task in COMPARED:
        found += [Row(f"gateway {task}", 9, failures, 1, through), Row(f"direct {task}", 9, 0, 1, direct)]
    return found


def test_load_test_passes_and_fails() -> None:
    assert judge(rows(40, 30), 0) == []
    assert "gateway_requests_lost_total is 1" in judge(rows(40, 30), 1)
    assert any("failed" in reason for reason in judge(rows(40, 30, failures=1), 0))
    assert any("p99" in reason for reason in judge(rows(400, 30), 0))
    assert any("not run both ways" in reason for reason in judge(rows(40, 30)[:2], 0))
    assert "no configuration change was made" in judge(rows(40, 30)[1:], 0)
