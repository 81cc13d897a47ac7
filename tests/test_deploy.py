"""What is in deploy/ is what the platforms accept, and agrees with the service."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from cloud_fallback.__main__ import SPARE_S
from cloud_fallback.settings import Settings

ROOT = Path(__file__).parents[1]
MANIFESTS = list(yaml.safe_load_all((ROOT / "deploy/kubernetes/cloud-fallback.yaml").read_text()))
CONTAINERS = ROOT / "deploy/cloudflare-containers/wrangler.jsonc"
KNOWN = {f"CLOUD_{name.upper()}" for name in Settings.model_fields} | {"FALLBACK_KEYS", "FALLBACK_AUTH", "REDIS_URL"}


def manifest(kind: str) -> Any:
    [found] = [each for each in MANIFESTS if each["kind"] == kind]
    return found


def containers_config() -> Any:
    return json.loads(re.sub(r"^\s*//.*$", "", CONTAINERS.read_text(), flags=re.MULTILINE))


@pytest.mark.parametrize("each", MANIFESTS, ids=lambda each: each["kind"])
def test_kubernetes_schema(each: dict[str, Any]) -> None:
    """Kubernetes' own schemas, unknown fields refused."""
    kubernetes_validate.validate(each, "1.35", strict=True)


def test_schema_refuses_what_is_wrong() -> None:
    """The check above is one that can fail."""
    wrong = {**manifest("Service"), "spec": {"ports": [{"port": "eighty", "portt": 1}]}}

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.35", strict=True)


def test_pods_have_the_time_they_take_to_end() -> None:
    """SIGKILL comes after the last stream's error event, and settings are ones that the service has."""
    pod = manifest("Deployment")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    env = {each["name"]: each["value"] for each in container["env"]}

    assert pod["terminationGracePeriodSeconds"] >= float(env["CLOUD_NOTICE_S"]) + float(env["CLOUD_DRAIN_S"]) + SPARE_S
    probe = container["readinessProbe"]
    assert float(env["CLOUD_NOTICE_S"]) >= 2 * probe["periodSeconds"] * probe["failureThreshold"]
    assert set(env) <= KNOWN


def test_pods_are_confined() -> None:
    """Not root, nothing written but /tmp, no capability, no token of the cluster."""
    pod = manifest("Deployment")["spec"]["template"]["spec"]
    [container] = pod["containers"]

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]


def test_selectors_meet() -> None:
    """Service, budget and autoscaler speak of the Deployment's pods."""
    deployment = manifest("Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]

    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert manifest("Service")["spec"]["selector"] == labels
    assert manifest("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    target = manifest("HorizontalPodAutoscaler")["spec"]
    assert target["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert manifest("PodDisruptionBudget")["spec"]["minAvailable"] < target["minReplicas"]


def test_containers_config() -> None:
    """wrangler's own schema; the image is the one Dockerfile, and variables are ones that the service has."""
    config = containers_config()
    schema = json.loads((ROOT / "node_modules/wrangler/config-schema.json").read_text())

    jsonschema.validate(config, schema)
    [container] = config["containers"]
    assert (CONTAINERS.parent / container["image"]).resolve() == ROOT / "cloud_fallback" / "Dockerfile"
    assert container["class_name"] == config["durable_objects"]["bindings"][0]["class_name"]
    seconds = float(config["vars"]["CLOUD_NOTICE_S"]) + float(config["vars"]["CLOUD_DRAIN_S"])
    assert container["rollout_active_grace_period"] >= seconds
    assert set(config["vars"]) <= KNOWN


def test_containers_schema_refuses_what_is_wrong() -> None:
    """The check above is one that can fail."""
    schema = json.loads((ROOT / "node_modules/wrangler/config-schema.json").read_text())
    config = {**containers_config(), "containers": [{"imagee": 1}]}

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(config, schema)


def test_dockerfile() -> None:
    """Not root, with a health check, and every package it copies is there."""
    text = (ROOT / "cloud_fallback/Dockerfile").read_text()

    assert re.search(r"^USER 10001$", text, re.MULTILINE)
    assert "HEALTHCHECK" in text
    for source in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        assert all((ROOT / name).exists() for name in source.split())
