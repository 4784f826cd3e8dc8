"""Files that backends name for TLS: used from the moment a change needs them, whatever was refused before."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness.certs import ca_pem

from tests.gateway import BACKENDS, Gateway

pytestmark = pytest.mark.anyio

BACKEND = {"name": "secure", "url": "https://127.0.0.1:9443", "tls": {"caFile": "ca.pem"}}


@pytest.fixture
def directory(gateway: Gateway) -> Path:
    found = gateway.context.settings.tls_files
    found.mkdir(parents=True, exist_ok=True)
    return found


async def test_a_file_is_there_after_a_dry_run_too(gateway: Gateway, directory: Path) -> None:
    assert (await gateway.client.post(BACKENDS, json=BACKEND)).status_code == 400
    (directory / "ca.pem").write_text(ca_pem())
    tried = await gateway.client.post(BACKENDS, json=BACKEND, params={"dryRun": "true"})
    assert tried.status_code == 200, tried.text
    made = await gateway.client.post(BACKENDS, json=BACKEND)
    assert made.status_code == 201, made.text


async def test_a_file_is_there_after_a_change_that_was_refused(gateway: Gateway, directory: Path) -> None:
    (directory / "ca.pem").write_text(ca_pem())
    wrong = BACKEND | {"tls": {"caFile": "another.pem"}}
    assert (await gateway.client.post(BACKENDS, json=wrong)).status_code == 400
    made = await gateway.client.post(BACKENDS, json=BACKEND)
    assert made.status_code == 201, made.text


async def test_a_broken_file_stops_no_other_change(
    gateway: Gateway, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (directory / "ca.pem").write_text(ca_pem())
    assert (await gateway.client.post(BACKENDS, json=BACKEND)).status_code == 201
    (directory / "ca.pem").write_text("-----BEGIN half")
    for number in range(2):
        plain = {"name": f"plain-{number}", "url": "http://127.0.0.1:9001"}
        assert (await gateway.client.post(BACKENDS, json=plain)).status_code == 201
    assert caplog.text.count("changed files for TLS are not used") == 1
    await gateway.configuration.refresh_tls_files()
    assert caplog.text.count("changed files for TLS are not used") == 1
    (directory / "ca.pem").write_text(ca_pem())
    before = gateway.configuration.generation
    await gateway.configuration.refresh_tls_files()
    assert gateway.configuration.generation == before + 1
