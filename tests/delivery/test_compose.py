"""docker-compose.yml, by the compose command itself and by what the program says of its variables."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness.prometheus import promtool

from hotswap_proxy.postgresurl import PostgresUrl
from hotswap_proxy.settings import PREFIX, Settings

ROOT = Path(__file__).resolve().parents[2]
FILE, EXAMPLE = ROOT / "docker-compose.yml", ROOT / ".env.example"
REQUIRED = ("HOTSWAP_ADMIN_PASSWORD", "POSTGRES_PASSWORD", "REDIS_PASSWORD", "GRAFANA_ADMIN_PASSWORD")
VALUES = {name: f"secretof{name.lower().replace('_', '')}" for name in REQUIRED}
WORLD = {"8000:8000", "8001:8000"}  # the proxies
GATEWAYS = ("gateway-1", "gateway-2")


@cache
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILE.read_text())["services"]
    return found


def command() -> list[str]:
    """Compose as a plugin of docker, or as a program of its own (Debian's docker-compose)."""
    if shutil.which("docker"):
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        if plugin.returncode == 0:
            return ["docker", "compose"]
    program = shutil.which("docker-compose")
    assert program, "neither `docker compose` nor docker-compose; scripts/setup installs the latter"
    return [program]


def config(values: dict[str, str], directory: Path) -> subprocess.CompletedProcess[str]:
    variables = directory / "variables"
    variables.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    line = [*command(), "--env-file", str(variables), "--file", str(FILE), "config"]
    environ = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(directory)}
    return subprocess.run(line, capture_output=True, text=True, env=environ, timeout=60, check=False)


def interpolated(name: str) -> dict[str, str]:
    """A service's variables, with the passwords in them."""
    environment: dict[str, str] = services()[name]["environment"]
    found = {}
    for key, value in environment.items():
        value = re.sub(r"\$\{(\w+):\?[^}]*\}", lambda match: VALUES[match[1]], value)
        found[key] = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)
    return found


def test_compose_accepts_it(tmp_path: Path) -> None:
    done = config(VALUES, tmp_path)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # no warning either
    resolved = yaml.safe_load(done.stdout)
    assert set(resolved["services"]) == set(services())
    url = resolved["services"]["gateway-2"]["environment"]["HOTSWAP_DATABASE_URL"]
    assert url == f"postgresql://hotswap:{VALUES['POSTGRES_PASSWORD']}@postgres:5432/hotswap"


@pytest.mark.parametrize("name", REQUIRED)
def test_there_is_no_default_password(name: str, tmp_path: Path) -> None:
    for absent in ({**VALUES, name: ""}, {key: value for key, value in VALUES.items() if key != name}):
        done = config(absent, tmp_path)
        assert done.returncode != 0
        assert "set it in .env" in done.stderr


def test_the_example_has_what_is_required_and_no_value() -> None:
    lines = [line for line in EXAMPLE.read_text().splitlines() if line and not line.startswith("#")]
    assert sorted(lines) == sorted(f"{name}=" for name in REQUIRED)
    used = set(re.findall(r"\$\{(\w+):\?", FILE.read_text()))
    assert used == set(REQUIRED)
    optional = set(re.findall(r"\$\{(\w+):-", FILE.read_text()))
    assert optional == set(re.findall(r"^# (\w+)=", EXAMPLE.read_text(), re.M))
    assert "/.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_only_the_proxies_are_published_to_the_world() -> None:
    published = [port for service in services().values() for port in service.get("ports", ())]
    assert {port for port in published if not port.startswith("127.0.0.1:")} == WORLD
    assert "127.0.0.1:3000:3000" in published and "127.0.0.1:16686:16686" in published


@pytest.mark.parametrize("name", sorted(services()))
def test_a_container_has_no_more_than_it_needs(name: str) -> None:
    service = services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"] and "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service and "network_mode" not in service
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}
    if name != "configure":
        assert {"cpus", "memory"} <= set(service["deploy"]["resources"]["limits"])
    for volume in service.get("volumes", ()):
        source = volume.partition(":")[0]
        if source.startswith("."):
            assert volume.endswith(":ro") and (ROOT / source).exists(), volume
        else:
            assert source in yaml.safe_load(FILE.read_text())["volumes"]
    build = service.get("build")
    if isinstance(build, dict):
        assert (ROOT / build["context"] / build["dockerfile"]).is_file()


@pytest.mark.parametrize("name", sorted(services()))
def test_images_are_built_here_or_have_a_version(name: str) -> None:
    service = services()[name]
    if "build" in service:
        assert service["image"].endswith(":local")
    else:
        assert re.search(r":v?\d+\.\d+(\.\d+)?(-\w+)?$", service["image"]), service["image"]


def test_each_gateway_understands_its_variables() -> None:
    known = {PREFIX + field.upper() for field in Settings.__slots__}
    for name in GATEWAYS:
        variables = interpolated(name)
        assert set(variables) <= known
        settings = Settings.from_environment(variables)
        settings.check_combinations()
        assert settings.node_id == name and settings.access_log == "-"
        assert settings.workers == float(services()[name]["deploy"]["resources"]["limits"]["cpus"])
        grace = float(services()[name]["stop_grace_period"].removesuffix("s"))
        assert grace > settings.drain_timeout
        assert PostgresUrl.parse(variables["HOTSWAP_DATABASE_URL"]).host in services()
        assert f":{VALUES['REDIS_PASSWORD']}@redis:" in variables["HOTSWAP_REDIS_URL"]


def test_who_reaches_whom() -> None:
    """The store is in a network of its own; a gateway is in all of them."""
    members: dict[str, set[str]] = {}
    for name, service in services().items():
        for network in service["networks"]:
            members.setdefault(network, set()).add(name)
    assert members["store"] == {*GATEWAYS, "postgres", "redis"}
    assert yaml.safe_load(FILE.read_text())["networks"]["store"] == {"internal": True}
    for gateway in GATEWAYS:
        assert all(gateway in group for group in members.values())


def test_prometheus_scrapes_the_gateways() -> None:
    directory = ROOT / "deploy" / "prometheus"
    command = services()["prometheus"]["command"]
    [name] = [Path(line.partition("=")[2]).name for line in command if line.startswith("--config.file=")]
    checked = promtool("check", "config", str(directory / name))
    assert checked.returncode == 0, checked.stdout
    config = yaml.safe_load((directory / name).read_text())
    [job] = config["scrape_configs"]
    [targets] = job["static_configs"]
    assert targets["targets"] == [f"{gateway}:5000" for gateway in GATEWAYS]
    own = yaml.safe_load((directory / "prometheus.yml").read_text())["scrape_configs"][0]
    assert job["job_name"] == own["job_name"]  # the alerts go by it


def test_the_health_check_is_the_image_s() -> None:
    """It asks the admin address of the variable, so it holds for 0.0.0.0 in a container, too."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "HEALTHCHECK" in dockerfile and "/api/v1/gateway/health" in dockerfile
    for gateway in GATEWAYS:
        assert "healthcheck" not in services()[gateway]
