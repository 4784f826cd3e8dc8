"""Every example in the docs is run, in the order of its page, against a gateway of the page's own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme
from node import PASSWORD, Node

from .blocks import ROOT, blocks, name, pages
from .script import Script
from .setup import SETUPS, TEXT
from .shims import write

NOT_OURS = {".git", ".venv", ".env", "build", "data"}
PAGES = {name(page): page for page in pages()}
# Backends, by their addresses in the docs: some answer, at addresses of this machine.
ADDRESS = re.compile(r"\b(?:127\.0\.0\.1|localhost|10\.0\.0\.\d+):9\d{3}\b")


class Answers(BaseHTTPRequestHandler):
    """A backend that answers everything."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_POST = do_PUT = do_GET  # noqa: N815

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def backend() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def script_of(page: str) -> Script:
    script = Script(page, PASSWORD)
    problems = []
    for block in blocks(PAGES[page]):
        try:
            script.add(block)
        except (AssertionError, ValueError, SyntaxError) as error:
            problems.append(f"{block.where}: {error}")
    assert not problems, "\n".join(problems)
    return script


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_the_page_work(
    page: str, tmp_path: Path, backend: str, request: pytest.FixtureRequest
) -> None:
    script = script_of(page)
    for line in script.skipped:
        print("not run:", line)
    if not script.runs:
        return
    options = [option.replace("..", str(tmp_path)) for option in script.setup.options]
    node = Node(tmp_path, "--workers", "1", *options, HOTSWAP_MIDDLEWARE="", PYTHONPATH=_python_path())
    node.start()
    try:
        database = request.getfixturevalue("postgres_url") if script.setup.database else ""
        _run(script, node, tmp_path, backend, database)
    finally:
        node.clean_up()


def _run(script: Script, node: Node, directory: Path, backend: str, database: str) -> None:
    text = script.text.replace(script.setup.database, database) if database else script.text
    for old, new in {
        r"(127\.0\.0\.1|localhost):5000": node.ready["admin"],
        r"(127\.0\.0\.1|localhost):8000": node.ready["proxy"],
    }.items():
        text = re.sub(old, new, text)
    text = ADDRESS.sub(backend, text)
    work = directory / "work"
    work.mkdir()
    _files(work)
    environ = {
        **{key: value for key, value in os.environ.items() if not key.startswith("HOTSWAP_")},
        "PATH": f"{write(directory / 'bin')}:{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "PYTHONPATH": _python_path(),
        "HOME": str(work),
        "XDG_CONFIG_HOME": str(work / ".config"),
        "EXAMPLES": str(ROOT / "examples"),
        "HOTSWAP_ADMIN_URL": node.admin_url,
        "HOTSWAP_PASSWORD": PASSWORD,
        "HOTSWAP_TOKEN": (token := _token(node)),
        "TOKEN": token,
        **script.setup.environ,
    }
    done = subprocess.run(
        ["bash", "-c", text], cwd=work, env=environ, capture_output=True, text=True, timeout=100
    )
    told = done.stderr.splitlines()
    at = max((index for index, line in enumerate(told) if line.startswith("@@ ")), default=0)
    shown = "\n".join([*told[at:], *done.stdout.splitlines()[-12:]])
    assert done.returncode == 0, f"exit code {done.returncode} in {script.page}\n{shown}"


def _python_path() -> str:
    return os.pathsep.join([str(ROOT / "python"), str(ROOT / "examples")])


def _files(directory: Path) -> None:
    """What commands name: what is in the repository, where a reader would be, and certificates."""
    for entry in ROOT.iterdir():
        if entry.name not in NOT_OURS and not (directory / entry.name).exists():
            (directory / entry.name).symlink_to(entry)
    certificate = trustme.CA().issue_cert("localhost")
    chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    for file in ("site.pem", "gateway.pem", "internal-ca.pem"):
        (directory / file).write_bytes(chain)
    for file in ("site.key", "gateway.key"):
        (directory / file).write_bytes(certificate.private_key_pem.bytes())


def _token(node: Node) -> str:
    request = urllib.request.Request(
        f"{node.admin_url}/api/v1/authentication/login",
        json.dumps({"username": "admin", "password": PASSWORD}).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return str(json.load(answer)["token"])


def test_the_tables_name_what_there_is() -> None:
    """Else an exception would outlive its reason."""
    texts = {(block.page, block.first) for page in PAGES.values() for block in blocks(page)}
    assert not SETUPS.keys() - PAGES.keys()
    unused = [
        (page, beginning)
        for page, beginning in TEXT
        if not any(page == there and first.startswith(beginning) for there, first in texts)
    ]
    assert not unused, unused
