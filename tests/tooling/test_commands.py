"""The commands that the documents promise exist."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
TARGETS = {"help", "setup", "run", "check", "test", "bench", "load", "wheel"}


def hotswap_proxy(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = Path(sysconfig.get_path("scripts")) / "hotswap-proxy"
    return subprocess.run([str(command), *arguments], capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("arguments", [["make", "help"], ["make"]])
def test_make_help_lists_every_target(arguments: list[str]) -> None:
    shown = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    listed = {line.split()[0] for line in plain.splitlines() if line.strip()}
    assert listed >= TARGETS
    phony = set(re.findall(r"^\.PHONY: (\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert listed == phony, "every target says what it does"


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "docs/performance.md"])
def test_documents_name_targets_that_exist(document: str) -> None:
    named = set(re.findall(r"(?:^|`|\s)make ([a-z]+)\b", (ROOT / document).read_text()))
    phony = set(re.findall(r"^\.PHONY: (\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert named <= phony


@pytest.mark.parametrize(
    "command", sorted(set(re.findall(r"^    hotswap-proxy (\w+)", README, re.MULTILINE)))
)
def test_readme_commands_exist(command: str) -> None:
    result = hotswap_proxy(command, "--help")
    assert result.returncode == 0, result.stderr


def test_readme_names_commands_at_all() -> None:
    assert {"run", "apply", "diff", "validate"} <= set(re.findall(r"hotswap-proxy (\w+)", README))


def test_readme_links_exist() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_readme_file_example_is_valid(tmp_path: Path) -> None:
    block = re.search(r'^    version: "1"\n(?:    .*\n)+', README, re.MULTILINE)
    assert block is not None
    file = tmp_path / "gateway.yaml"
    file.write_text(re.sub(r"^    ", "", block[0], flags=re.MULTILINE))
    result = hotswap_proxy("validate", "--file", str(file))
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("file", ["demo/gateway.yaml", "demo/compose.yaml"])
def test_demo_configurations_are_valid(file: str) -> None:
    result = hotswap_proxy("validate", "--file", str(ROOT / file))
    assert result.returncode == 0, result.stdout + result.stderr


def test_version_is_the_package_version() -> None:
    declared = re.search(r'^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert declared is not None
    assert declared[1] in hotswap_proxy("version").stdout


@pytest.mark.parametrize("module", ["bench", "demo", "loadtest"])
def test_harness_commands_start(module: str) -> None:
    subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, check=True, timeout=60
    )


def test_crate_and_package_have_one_version() -> None:
    versions = {
        re.search(r'^version = "([^"]+)"', (ROOT / file).read_text(), re.MULTILINE)[1]  # type: ignore[index]
        for file in ("pyproject.toml", "rust/Cargo.toml")
    }
    assert len(versions) == 1


class TestImage:
    """docker-compose.yml is looked at in tests/delivery."""

    dockerfile = (ROOT / "Dockerfile").read_text()

    def test_image_is_not_root_and_has_a_health_check(self) -> None:
        final = self.dockerfile.split("\nFROM ")[-1]
        users = re.findall(r"^USER (\S+)", final, re.MULTILINE)
        assert users and users[-1] not in ("root", "0")
        assert "HEALTHCHECK" in final and "/api/v1/gateway/health" in final
        assert re.search(r"^VOLUME /data", final, re.MULTILINE)

    def test_copied_paths_exist_and_are_not_ignored(self) -> None:
        ignored = (ROOT / ".dockerignore").read_text().splitlines()
        for line in re.findall(r"^COPY (?!--from)(.+)$", self.dockerfile, re.MULTILINE):
            for source in line.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source.removeprefix('./')}" in ignored, source

    def test_environment_variables_are_settings(self) -> None:
        from hotswap_proxy.settings import Settings

        fields = {f"HOTSWAP_{name.upper()}" for name in Settings.__slots__}
        used = set(re.findall(r"\b(HOTSWAP_[A-Z_]+)=", self.dockerfile))
        assert used <= fields
