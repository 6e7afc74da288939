"""Deployment manifests: routes, settings, files and users exist; containers are confined."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from packaging.requirements import Requirement
from starlette.testclient import TestClient

from linewise.service.settings import Replicas, Settings, as_markdown, describe

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "service" / "deploy"
SETTINGS = {name: default for name, default, _ in describe()}


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text("utf-8")))


@pytest.fixture
def pod() -> dict[str, Any]:
    (deployment,) = (d for d in documents("kubernetes.yaml") if d["kind"] == "Deployment")
    spec: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return spec


def test_the_probes_request_existing_routes(pod: dict[str, Any], client: TestClient) -> None:
    (container,) = pod["containers"]
    paths = {container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
    assert paths == {"/healthz/ready", "/healthz/live"}
    assert all(client.get(path).status_code == 200 for path in paths)


def test_every_variable_is_a_setting(pod: dict[str, Any]) -> None:
    named = {entry["name"] for entry in pod["containers"][0]["env"]}
    named |= set(documents("compose.yaml")[0]["services"]["linewise"]["environment"])
    assert named <= set(SETTINGS)


def test_a_pod_and_a_container_have_the_time_to_drain(pod: dict[str, Any]) -> None:
    settings = {entry["name"]: entry.get("value") for entry in pod["containers"][0]["env"]}
    timeout = float(SETTINGS["LINEWISE_DRAIN_TIMEOUT"])
    assert pod["terminationGracePeriodSeconds"] > float(settings["LINEWISE_DRAIN_DELAY"]) + timeout
    grace = documents("compose.yaml")[0]["services"]["linewise"]["stop_grace_period"]
    assert float(grace.removesuffix("s")) > timeout


def test_it_runs_as_the_user_of_the_image_and_writes_nothing(pod: dict[str, Any]) -> None:
    user = re.search(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    assert user is not None
    context = pod["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"]) == (int(user[1]), int(user[2]))
    assert context["runAsNonRoot"]
    container = pod["containers"][0]["securityContext"]
    assert container["readOnlyRootFilesystem"] and not container["allowPrivilegeEscalation"]
    assert container["capabilities"] == {"drop": ["ALL"]}
    assert documents("compose.yaml")[0]["services"]["linewise"]["read_only"]


def test_the_cluster_requires_an_api_key(pod: dict[str, Any]) -> None:
    variables = {entry["name"]: entry for entry in pod["containers"][0]["env"]}
    assert variables["LINEWISE_ALLOW_ANONYMOUS"]["value"] == "false"
    assert "secretKeyRef" in variables["LINEWISE_API_KEYS"]["valueFrom"]


def test_compose_mounts_existing_files_and_publishes_on_the_loopback_device_only() -> None:
    for service in documents("compose.yaml")[0]["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert not source.startswith(".") or (DEPLOY / source).is_file(), source
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_the_container_installs_every_dependency_by_hash_and_no_torch() -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    pinned = re.findall(
        r"^([a-z0-9.-]+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)",
        (DEPLOY / "requirements.txt").read_text("utf-8"),
        re.MULTILINE,
    )
    versions = {name: version for name, version, _ in pinned}
    lines = (DEPLOY / "requirements.txt").read_text("utf-8").splitlines()
    assert len(versions) == len([line for line in lines if "==" in line and not line.startswith("#")])
    requirements = map(Requirement, dependencies)
    missing = [entry.name for entry in requirements if versions.get(entry.name, "-") not in entry.specifier]
    assert missing == [] and "torch" not in versions, "regenerate the file by the command in its first lines"
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    assert "--require-hashes --no-deps -r requirements.txt" in dockerfile


def ray_service() -> dict[str, Any]:
    (document,) = documents("rayservice.yaml")
    assert (document["apiVersion"], document["kind"]) == ("ray.io/v1", "RayService")
    spec: dict[str, Any] = document["spec"]
    return spec


@pytest.mark.parametrize("where", ["serve.yaml", "rayservice.yaml"])
def test_ray_takes_the_config_and_the_application_takes_its_arguments(where: str) -> None:
    schema = pytest.importorskip("ray.serve.schema", reason="the extra ray is not installed")
    config = documents(where)[0] if where == "serve.yaml" else yaml.safe_load(ray_service()["serveConfigV2"])
    (application,) = schema.ServeDeploySchema.model_validate(config).applications
    assert application.import_path == "linewise.service.ray_serving:build"
    assert Replicas.model_validate(application.args).max_replicas > 1


def test_the_manual_lists_all_settings_of_replicas() -> None:
    document = (DEPLOY / "README.md").read_text("utf-8")
    assert as_markdown(Replicas) in document, "print(linewise.service.settings.as_markdown(Replicas)) prints the table"


def test_pods_of_ray_are_confined_keyed_and_guarded_by_a_token() -> None:
    cluster = ray_service()["rayClusterConfig"]
    assert cluster["authOptions"] == {"mode": "token"}
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        (container,) = pod["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        variables = {entry["name"]: entry for entry in container["env"]}
        assert {name for name in variables if name.startswith("LINEWISE_")} <= set(SETTINGS)
        assert "secretKeyRef" in variables["LINEWISE_API_KEYS"]["valueFrom"]
        with pytest.raises(ValueError, match="no API key"):  # as in a replica with an empty secret
            Settings(host=variables["LINEWISE_HOST"]["value"])
    grace = cluster["workerGroupSpecs"][0]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > float(SETTINGS["LINEWISE_DRAIN_TIMEOUT"])


def test_the_serve_config_listens_on_the_loopback_device_only() -> None:
    assert documents("serve.yaml")[0]["http_options"]["host"] == "127.0.0.1"
