"""The Kubernetes manifests: valid by the real schemas, consistent with each other and with the program."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from hotswap_proxy.admin.handlers import ENDPOINTS
from hotswap_proxy.settings import PREFIX, Settings, SettingsError
from scripts import prometheusrule
from tests.delivery import manifests
from tests.delivery.manifests import ADMIN, DIRECTORY, PROXY, ROOT, SECRET, Document

VERSIONS = ("1.27", "1.32", "1.37")
SECRETS = {
    "database-url": "postgresql://gateway:secret@db.internal/hotswap",
    "redis-url": "redis://:secret@redis.internal:6379/0",
    "admin-username": "admin",
    "admin-password": "a password for tests",
}
KUSTOMIZATIONS = sorted(path.parent.name for path in DIRECTORY.glob("*/kustomization.yaml"))


def checked(documents: list[Document], version: str, directory: Path) -> str:
    """What is wrong with them by the schemas of a version of Kubernetes; nothing when they are right."""
    file = directory / "documents.yaml"
    file.write_text(yaml.safe_dump_all(documents))
    command = [sys.executable, "-P", "-m", "kubernetes_validate", "--strict", "-k", version, str(file)]
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60, check=False)
    said = done.stdout + done.stderr
    assert (done.returncode == 0) == (said.count(" passed for ") == len(documents)), said
    return "" if done.returncode == 0 else said


def of_the_core() -> list[Document]:
    found = [*manifests.resources("gateway"), *manifests.resources("configure"), manifests.patched()]
    return [*found, *manifests.load(SECRET)]


@pytest.mark.parametrize("version", VERSIONS)
def test_they_are_what_the_cluster_knows(version: str, tmp_path: Path) -> None:
    documents = of_the_core()
    assert len(documents) == 13
    assert checked(documents, version, tmp_path) == ""


def test_the_schemas_would_find_a_mistake(tmp_path: Path) -> None:
    wrong = manifests.find("Deployment")
    wrong["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}
    assert "livenessprobe" in checked([wrong], VERSIONS[0], tmp_path)


@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_every_file_is_listed(name: str) -> None:
    document = manifests.kustomization(name)
    listed = {*document["resources"], *(patch["path"] for patch in document.get("patches", ()))}
    present = {path.name for path in (DIRECTORY / name).glob("*.yaml")} - {"kustomization.yaml", SECRET.name}
    assert {entry for entry in listed if entry.endswith(".yaml")} == present
    for entry in listed - present:
        assert (DIRECTORY / name / entry / "kustomization.yaml").exists()


@pytest.mark.parametrize("name", ["gateway", "configure"])
def test_images_have_a_place_and_a_version(name: str) -> None:
    [image] = manifests.kustomization(name)["images"]
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert version is not None and image["newTag"] == version[1]
    used = re.findall(r"image: (\S+)", "".join(p.read_text() for p in (DIRECTORY / name).glob("*.yaml")))
    assert set(used) == {image["name"]}


def test_the_gateway_understands_its_variables() -> None:
    variables = manifests.environment(SECRETS)
    known = {PREFIX + field.upper() for field in Settings.__slots__}
    assert set(variables) <= known
    settings = Settings.from_environment(variables)
    settings.check_combinations()
    assert settings.environment == "Production" and settings.workers == 2
    assert settings.database_url is not None and settings.redis_url is not None
    assert settings.node_id == "gateway-7d9c5b-x2x4z" and settings.access_log == "-"
    assert (settings.proxy, settings.admin) == (f"0.0.0.0:{PROXY}", f"0.0.0.0:{ADMIN}")


def test_the_example_of_the_secret_is_no_way_in() -> None:
    [example] = manifests.load(SECRET)
    secrets = example["stringData"]
    assert set(secrets) == set(SECRETS)
    with pytest.raises(SettingsError) as refused:
        Settings.from_environment(manifests.environment(secrets))
    assert {problem.partition(":")[0] for problem in refused.value.problems} == {
        "HOTSWAP_DATABASE_URL",
        "HOTSWAP_REDIS_URL",
    }
    assert len(secrets["admin-password"]) < 12  # what the gateway asks of a password


def test_every_secret_and_config_map_that_is_named_is_there() -> None:
    text = yaml.safe_dump_all([*manifests.resources("gateway"), *manifests.resources("configure")])
    keys = set(re.findall(r"key: (\S+)\n\s+name: gateway-secrets", text))
    assert keys == set(SECRETS)
    maps = {manifests.find("ConfigMap")["metadata"]["name"]}
    maps.add(manifests.find("ConfigMap", of="configure")["metadata"]["name"])
    assert maps == {"gateway-settings", "gateway-configuration"}
    [volume] = manifests.find("Job", of="configure")["spec"]["template"]["spec"]["volumes"]
    assert volume["configMap"]["name"] in maps


def test_probes_ask_what_the_admin_api_answers_without_a_login() -> None:
    public = {endpoint.path for endpoint in ENDPOINTS if endpoint.method == "GET" and not endpoint.roles}
    ports = {port["name"]: port["containerPort"] for port in manifests.container()["ports"]}
    assert ports == {"proxy": PROXY, "admin": ADMIN}
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = manifests.container()[name]["httpGet"]
        assert asked["path"] in public and asked["port"] == "admin"


def test_there_is_time_to_drain() -> None:
    settings = Settings.from_environment(manifests.environment(SECRETS))
    command, seconds = manifests.container()["lifecycle"]["preStop"]["exec"]["command"]
    readiness = manifests.container()["readinessProbe"]
    assert command == "sleep" and int(seconds) >= readiness["periodSeconds"]
    assert manifests.pod()["terminationGracePeriodSeconds"] >= int(seconds) + settings.drain_timeout + 5


def test_a_roll_out_takes_none_away() -> None:
    spec = manifests.find("Deployment")["spec"]
    assert spec["replicas"] >= 2
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    scaler = manifests.find("HorizontalPodAutoscaler")["spec"]
    assert scaler["minReplicas"] >= spec["replicas"]
    assert scaler["scaleTargetRef"]["name"] == manifests.find("Deployment")["metadata"]["name"]
    assert manifests.find("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_selectors_find_the_pods() -> None:
    labels = manifests.find("Deployment")["spec"]["template"]["metadata"]["labels"]
    spread = manifests.pod()["topologySpreadConstraints"]
    assert {constraint["topologyKey"] for constraint in spread} == {
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    }
    selectors = [
        manifests.find("Deployment")["spec"]["selector"]["matchLabels"],
        manifests.find("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        manifests.find("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *(constraint["labelSelector"]["matchLabels"] for constraint in spread),
    ]
    for name, port in (("gateway", "proxy"), ("gateway-admin", "admin")):
        service = manifests.find("Service", name)["spec"]
        selectors.append(service["selector"])
        assert [entry["targetPort"] for entry in service["ports"]] == [port]
        assert service["type"] == "ClusterIP"
    for selector in selectors:
        assert selector == labels


def test_only_prometheus_and_the_job_reach_the_admin_api() -> None:
    everybody, few = manifests.find("NetworkPolicy")["spec"]["ingress"]
    assert everybody == {"ports": [{"port": PROXY, "protocol": "TCP"}]}
    assert few["ports"] == [{"port": ADMIN, "protocol": "TCP"}]
    job = manifests.find("Job", of="configure")["spec"]["template"]["metadata"]["labels"]
    prometheus, configure = few["from"]
    assert set(prometheus) == {"namespaceSelector", "podSelector"}
    assert configure["podSelector"]["matchLabels"] == job
    service = manifests.find("Service", "gateway-admin")
    asked = manifests.find("Job", of="configure")["spec"]["template"]["spec"]["containers"][0]["env"][0]
    assert asked == {
        "name": "HOTSWAP_ADMIN_URL",
        "value": f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}",
    }


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_pods_are_restricted(kind: str) -> None:
    """The rules of the pod security standard `restricted`, which the namespace enforces, and some more."""
    of = "gateway" if kind == "Deployment" else "configure"
    spec: dict[str, Any] = manifests.find(kind, of=of)["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False  # variables of every Service of the namespace
    assert spec["securityContext"]["runAsNonRoot"] is True and spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for forbidden in ("hostNetwork", "hostPID", "hostIPC"):
        assert forbidden not in spec
    for volume in spec["volumes"]:
        assert {"emptyDir", "configMap"} & set(volume)
    for each in spec["containers"]:
        assert each["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert set(each["resources"]["limits"]) == set(each["resources"]["requests"]) == {"cpu", "memory"}
    namespace = manifests.find("Namespace")["metadata"]["labels"]
    assert namespace["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_user_is_the_image_s() -> None:
    found = re.search(r"useradd .*--uid (\d+)", (ROOT / "Dockerfile").read_text())
    assert found is not None
    context = manifests.pod()["securityContext"]
    assert context["runAsUser"] == context["fsGroup"] == int(found[1])


def test_the_rules_are_those_of_prometheus() -> None:
    """In the fields that the operator's definition has, and no others."""
    assert prometheusrule.RESULT.read_text() == prometheusrule.render(), (
        "run: python -m scripts.prometheusrule"
    )
    rule = manifests.find("PrometheusRule", of="monitoring")
    assert rule["apiVersion"] == "monitoring.coreos.com/v1" and set(rule["spec"]) == {"groups"}
    names = [group["name"] for group in rule["spec"]["groups"]]
    assert names and len(set(names)) == len(names)
    alert = {"alert", "expr", "for", "keep_firing_for", "labels", "annotations"}
    for group in rule["spec"]["groups"]:
        assert set(group) <= {"name", "interval", "limit", "labels", "rules"} and group["rules"]
        for each in group["rules"]:
            allowed = {"record", "expr", "labels"} if "record" in each else alert
            assert {"expr"} < set(each) <= allowed, each


def test_the_service_monitor() -> None:
    """Checked against the operator's definition when it was written; its fields are these and no others."""
    monitor = manifests.find("ServiceMonitor", of="monitoring")
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    spec = monitor["spec"]
    assert set(spec) == {"selector", "namespaceSelector", "jobLabel", "endpoints", "sampleLimit"}
    service = manifests.find("Service", "gateway-admin")
    assert spec["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    other = manifests.find("Service", "gateway")
    assert not spec["selector"]["matchLabels"].items() <= other["metadata"]["labels"].items()
    assert spec["namespaceSelector"] == {"matchNames": [service["metadata"]["namespace"]]}
    [endpoint] = spec["endpoints"]
    assert set(endpoint) == {"port", "path", "interval", "scrapeTimeout", "honorLabels"}
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert endpoint["path"] == "/metrics" and endpoint["honorLabels"] is False
    seconds = [int(endpoint[name].removesuffix("s")) for name in ("scrapeTimeout", "interval")]
    assert seconds[0] <= seconds[1]
    assert spec["jobLabel"] in service["metadata"]["labels"]
