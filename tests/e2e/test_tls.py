"""TLS on a node as an operator runs it: curl, a certificate that is replaced, and an https backend."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.backend import Backend
from harness.certs import ca_pem, client_context, issue, server_context
from harness.client import Client
from harness.wait import eventually

from tests.e2e.conftest import Api
from tests.node import Node
from tests.processes import alive

READY_HTTPS = "proxy https://"


def install(directory: Path, *names: str) -> tuple[str, str]:
    """Certificate and key as files, replaced one after the other, as a tool for certificates does."""
    paths = []
    for name, text in zip(("cert.pem", "key.pem"), issue(*names), strict=True):
        draft = directory / f"{name}.new"
        draft.write_text(text)
        draft.chmod(0o600)
        draft.replace(directory / name)
        paths.append(str(directory / name))
    return paths[0], paths[1]


def options(directory: Path, *names: str) -> list[str]:
    cert, key = install(directory, *names)
    return ["--tls-cert", cert, "--tls-key", key, "--hsts-max-age", "600"]


@pytest.fixture
def served(tmp_path: Path, backends: list[Backend], start_node: Callable[..., Node]) -> tuple[Node, Api]:
    node = start_node("--proxy-tls", "127.0.0.1:0", *options(tmp_path, "localhost", "127.0.0.1"))
    api = Api(node)
    route = {"name": "all", "pathPattern": "/**", "backends": [{"url": backends[0].url}]}
    api.call("POST", "/gateway/routes", route)
    return node, api


def tls_port(node: Node) -> int:
    return int(node.lines[-1].partition("https://")[2].partition(",")[0].rpartition(":")[2])


def test_curl_gets_its_answer_over_tls(served: tuple[Node, Api], tmp_path: Path) -> None:
    node, api = served
    (tmp_path / "ca.pem").write_text(ca_pem())
    url = f"https://localhost:{tls_port(node)}/"
    command = ["curl", "-sS", "-i", "--cacert", str(tmp_path / "ca.pem"), "--resolve"]
    command += [f"localhost:{tls_port(node)}:127.0.0.1", url]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    assert answer.startswith("HTTP/1.1 200")
    assert "strict-transport-security: max-age=600" in answer.lower()
    with Client(node.proxy_port) as plain:
        assert plain.get().header("strict-transport-security") is None
    (shown,) = api.call("GET", "/gateway/nodes")["nodes"][0]["certificates"]
    assert shown["names"] == ["localhost", "127.0.0.1"]
    assert api.metric("gateway_tls_certificate_expiry_seconds") > 0


def test_the_next_control_process_takes_both_addresses_over(
    served: tuple[Node, Api], tmp_path: Path, start_node: Callable[..., Node]
) -> None:
    node, _api = served
    plain, secured = node.proxy_port, tls_port(node)
    before = listening_inodes(plain, secured)
    orphans = node.workers()
    os.kill(node.process.pid, signal.SIGKILL)
    node.process.wait()
    with Client(secured, tls=client_context(), name="localhost") as served_by_an_orphan:
        assert served_by_an_orphan.get().status == 200
        pair = [
            option for name in ("cert", "key") for option in (f"--tls-{name}", str(tmp_path / f"{name}.pem"))
        ]
        heir = start_node("--proxy", f"127.0.0.1:{plain}", "--proxy-tls", f"127.0.0.1:{secured}", *pair)
        assert heir.ready
        assert listening_inodes(plain, secured) == before, (
            "the same sockets: what queues in them is not reset"
        )
    eventually(lambda: not any(map(alive, orphans)), timeout=40)
    assert listening_inodes(plain, secured) == before
    with Client(secured, tls=client_context(), name="localhost") as client:
        assert client.get().status == 200


def listening_inodes(*ports: int) -> set[str]:
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    wanted = {f"{port:04X}" for port in ports}
    return {row[9] for row in rows if row[3] == "0A" and row[1].rpartition(":")[2] in wanted}


def test_a_replaced_certificate_is_used_and_a_broken_one_is_not(
    served: tuple[Node, Api], tmp_path: Path
) -> None:
    node, _api = served
    port = tls_port(node)
    with Client(port, tls=client_context(), name="localhost") as old:
        assert old.get().status == 200
        (tmp_path / "cert.pem").write_text(issue("other.example")[0])  # without its key
        node.logged("certificates refused")
        assert node.health()["configError"]
        with Client(port, tls=client_context(), name="localhost") as still:
            assert still.get().status == 200
        install(tmp_path, "new.example")
        node.logged("certificates loaded")

        def renewed() -> bool:
            try:
                with Client(port, tls=client_context(), name="new.example") as new:
                    return new.get().status == 200
            except ssl.SSLCertVerificationError:
                return False

        eventually(renewed)
        assert old.get().status == 200
        eventually(lambda: not node.health()["configError"])


def test_sessions_are_resumed_across_workers(served: tuple[Node, Api]) -> None:
    node, _api = served
    context = client_context()
    with Client(tls_port(node), tls=context, name="localhost") as first:
        assert first.get().status == 200
        session = first.sock.session
    for _ in range(10):  # by then both workers have had one
        with Client(tls_port(node), tls=context, name="localhost", session=session) as again:
            assert again.get().status == 200
            assert again.sock.session_reused


def test_an_https_backend_is_verified_by_a_private_ca(
    tmp_path: Path, start_node: Callable[..., Node]
) -> None:
    directory = tmp_path / "files"
    directory.mkdir()
    (directory / "ca.pem").write_text(ca_pem("strangers"))
    server = Backend(tls=server_context())
    node = start_node("--tls-dir", str(directory))
    api = Api(node)
    backend = {"url": server.url, "tls": {"caFile": "ca.pem"}}
    api.call("POST", "/gateway/routes", {"name": "all", "pathPattern": "/**", "backends": [backend]})
    with Client(node.proxy_port) as client:
        assert client.get().status == 502
        (directory / "ca.pem").write_text(ca_pem())
        shown = api.call("GET", "/gateway/routes")["routes"][0]
        api.call("PUT", f"/gateway/routes/{shown['routeId']}", {"timeoutSeconds": 20})
        assert client.get().status == 200
        (directory / "ca.pem").write_text("broken")
        api.call("PUT", f"/gateway/routes/{shown['routeId']}", {"timeoutSeconds": 21})
        node.logged("changed files for TLS are not used")
        assert client.get().status == 200
    server.close()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--tls-cert", "absent.pem", "--tls-key", "absent.key"], "--tls-cert absent.pem: no such file"),
        (["--tls-cert", "absent.pem"], "each certificate needs its key"),
        (["--proxy-tls", "127.0.0.1:0"], "--proxy-tls (HOTSWAP_PROXY_TLS): needs --tls-cert"),
        (["--tls-client-auth", "sometimes"], "is not one of off, optional, required"),
    ],
)
def test_what_cannot_be_used_is_said(
    tmp_path: Path, start_node: Callable[..., Node], given: list[str], said: str
) -> None:
    node = start_node(*given)
    assert node.process.wait(30) != 0
    assert said in node.log.read_text()


def test_the_only_address_can_speak_tls(tmp_path: Path, start_node: Callable[..., Node]) -> None:
    node = start_node(*options(tmp_path, "localhost"))
    line = node.lines[-1]
    assert READY_HTTPS in line
    port = int(line.partition(READY_HTTPS)[2].partition(",")[0].rpartition(":")[2])
    with Client(port, tls=client_context(), name="localhost") as client:
        assert client.get().status == 404


def test_https_backends_are_checked_over_tls(tmp_path: Path, start_node: Callable[..., Node]) -> None:
    directory = tmp_path / "files"
    directory.mkdir()
    (directory / "ca.pem").write_text(ca_pem())
    (directory / "strangers.pem").write_text(ca_pem("strangers"))
    server = Backend(tls=server_context())
    api = Api(start_node("--tls-dir", str(directory)))

    def checked(name: str, kind: str, ca: str) -> dict[str, Any]:
        check = {"type": kind, "interval": "5s", "timeout": "4s"}
        given = {"name": name, "url": server.url, "healthCheck": check, "tls": {"caFile": ca}}
        made = api.call("POST", "/gateway/backends", given)
        seen = api.call("POST", "/gateway/health-checks", {"backendId": made["backendId"]})["healthCheck"]
        return dict(seen)

    for kind in ("Http", "Tcp"):
        good, bad = checked(f"good-{kind}", kind, "ca.pem"), checked(f"bad-{kind}", kind, "strangers.pem")
        assert good["lastProbe"]["result"] == "Success", good
        assert "not trusted" in str(bad), bad
    server.close()
