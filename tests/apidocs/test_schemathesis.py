"""The admin API of a running node against its own OpenAPI document: all checks of schemathesis find nothing.

In the suite it is a sample, the same each time. The whole of it takes some minutes:

    FUZZ_STORE=postgresql FUZZ_EVERY=1 FUZZ_EXAMPLES=999 pytest --timeout 7200 tests/apidocs/test_sch*
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from node import PASSWORD, Node

HERE = Path(__file__).parent
EVERY = os.environ.get("FUZZ_EVERY", "8")
STORE = os.environ.get("FUZZ_STORE", "sqlite")
EXAMPLES = os.environ.get("FUZZ_EXAMPLES", "2")


@pytest.fixture
def node(tmp_path: Path, database_url: str | None) -> Iterator[Node]:
    database = {"HOTSWAP_DATABASE_URL": database_url} if database_url else {}
    node = Node(tmp_path, "--workers", "1", **database).start()
    assert node.ready, node.log.read_text()
    yield node
    node.clean_up()


def call(node: Node, path: str, body: Any = None, token: str = "") -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json", **({"authorization": f"Bearer {token}"} if token else {})}
    request = urllib.request.Request(f"{node.admin_url}{path}", data, headers)
    with urllib.request.urlopen(request, timeout=100) as answer:
        return json.load(answer)


def fuzz(node: Node, *phases: str) -> subprocess.CompletedProcess[str]:
    """Run schemathesis as a user would, on an API key of the administrator: tokens end with passwords."""
    token = call(node, "/api/v1/authentication/login", {"username": "admin", "password": PASSWORD})["token"]
    key = call(node, "/api/v1/authentication/api-keys", {"name": "fuzz"}, token)
    call(node, "/openapi.json")  # the first time it is made, which schemathesis has no patience for
    environ = {
        **os.environ,
        "FUZZ_TOKEN": key["key"],
        "FUZZ_OWN": f"{key['userId']} {key['keyId']}",
        "FUZZ_EVERY": EVERY,
        "SCHEMATHESIS_HOOKS": "fuzzhooks",
        "PYTHONPATH": str(HERE),
    }
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml")),
        *(
            "run",
            f"{node.admin_url}/openapi.json",
            "--phases",
            ",".join(phases),
            "-n",
            EXAMPLES,
            "--no-color",
        ),
    ]
    return subprocess.run(command, env=environ, capture_output=True, text=True, cwd=node.directory)


@pytest.mark.parametrize("database_url", [STORE], indirect=True)
@pytest.mark.parametrize("phases", [("examples", "coverage"), ("fuzzing", "stateful")])
def test_nothing_is_found(node: Node, phases: tuple[str, ...]) -> None:
    done = fuzz(node, *phases)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    assert " 0 generated" not in done.stdout, done.stdout
    assert node.health()["ready"]
    assert not [line for line in node.events() if "Traceback" in str(line) or line["level"] == "critical"]
