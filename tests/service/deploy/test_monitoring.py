"""Compose, Prometheus and Grafana: a real Prometheus scrapes a loaded service, and every panel shows data."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml  # type: ignore[import-untyped]

from linewise.model.network.checkpoint import DEFAULT_PATH
from tests.campaigns.harness import ROOT, TIMEOUT_S, free_port, service

DEPLOY = ROOT / "service" / "deploy"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana.json").read_text("utf-8"))
QUERIES = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]]
KEY = "a-key-of-this-test-alone"
# The values of Grafana's variables: a rate covers four of the shipped intervals between scrapes.
VARIABLES = {"$instance": ".*", "$__rate_interval": "40s", "$__range": "1h"}

needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")), reason="prometheus and promtool are not installed"
)
needs_weights = pytest.mark.skipif(not DEFAULT_PATH.is_file(), reason="no weights in this tree")


@pytest.fixture
def configuration(tmp_path: Path) -> dict[str, Any]:
    """The shipped configuration, with the key file that Compose writes in a folder of the test."""
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text("utf-8"))
    (job,) = loaded["scrape_configs"]
    (tmp_path / "key").write_text(KEY)
    job["authorization"]["credentials_file"] = str(tmp_path / "key")
    return loaded


def promtool(*arguments: str, stdin: str | None = None) -> None:
    """Run a check of promtool, which must find nothing."""
    result = subprocess.run(
        ["promtool", "check", *arguments], check=False, capture_output=True, text=True, input=stdin, timeout=TIMEOUT_S
    )
    assert result.returncode == 0, result.stdout + result.stderr


@contextlib.contextmanager
def prometheus(configuration: dict[str, Any], folder: Path) -> Iterator[httpx2.Client]:
    """Run Prometheus with a configuration until the block ends; yields a client of its API."""
    file = folder / "prometheus.yaml"
    file.write_text(yaml.safe_dump(configuration))
    promtool("config", str(file))
    address = f"127.0.0.1:{free_port()}"
    options = {"config.file": file, "storage.tsdb.path": folder / "data", "web.listen-address": address}
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            ["prometheus", *(f"--{name}={value}" for name, value in options.items())],
            stdout=log,
            stderr=log,
        )
    try:
        with httpx2.Client(base_url=f"http://{address}", timeout=TIMEOUT_S) as client:
            yield client
    finally:
        process.terminate()
        process.wait(TIMEOUT_S)


def query(client: httpx2.Client, expression: str) -> list[dict[str, Any]]:
    """The samples that a query of the dashboard returns, without those that are no number."""
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    answer = client.get("/api/v1/query", params={"query": expression}).json()
    assert answer["status"] == "success", answer
    return [sample for sample in answer["data"]["result"] if sample["value"][1] != "NaN"]


def send_each_kind(port: int) -> None:
    """Send what moves every counter: a line, a batch, a page, a picture of no use, a refused and an expired request."""
    picture = (ROOT / "tests" / "data" / "receipt.png").read_bytes()
    page = (ROOT / "tests" / "data" / "cafe.jpg").read_bytes()
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers={"X-API-Key": KEY}, timeout=TIMEOUT_S) as http:
        for _ in range(8):
            assert http.post("/recognize", content=picture).status_code == 200
        files = [("files", (f"{number}.png", picture)) for number in range(8)]
        assert http.post("/recognize/batch", files=files).status_code == 200
        assert http.post("/recognize?mode=page", content=page).status_code == 200
        assert http.post("/recognize", content=b"no picture").status_code == 415
        assert http.post("/recognize", content=picture, headers={"X-API-Key": "wrong"}).status_code == 401


@pytest.mark.slow
@needs_prometheus
@needs_weights
def test_every_panel_shows_data_of_a_loaded_service(configuration: dict[str, Any], tmp_path: Path) -> None:
    with service(environment={"LINEWISE_API_KEYS": KEY}) as (port, _):
        configuration["global"]["scrape_interval"] = "1s"
        configuration["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{port}"]
        with prometheus(configuration, tmp_path) as client:
            deadline = time.monotonic() + 60
            empty = QUERIES
            while empty and time.monotonic() < deadline:
                send_each_kind(port)
                with contextlib.suppress(httpx2.TransportError):  # Prometheus has not started to listen
                    empty = [(title, expr) for title, expr in QUERIES if not query(client, expr)]
            assert not empty, f"{empty}; up: {query(client, 'up')}; {(tmp_path / 'log').read_text()}"
            labels = client.get("/api/v1/label/instance/values", params={"match[]": "linewise_ready"}).json()
            assert labels["data"] == [f"127.0.0.1:{port}"]  # what the variable `instance` offers


def test_counters_of_known_reasons_start_at_zero(client: Any) -> None:
    lines = client.get("/metrics").text.splitlines()
    assert 'linewise_rejected_total{reason="queue_full"} 0.0' in lines
    assert 'linewise_dropped_total{reason="expired"} 0.0' in lines
    assert 'linewise_decode_failures_total{code="undecodable"} 0.0' in lines


@needs_prometheus
def test_the_metrics_pass_the_lint_of_prometheus(client: Any) -> None:
    promtool("metrics", stdin=client.get("/metrics").text)


def test_each_query_names_metrics_of_the_service_and_the_variables_of_the_dashboard(client: Any) -> None:
    exposed = set(re.findall(r"^# TYPE (\w+)", client.get("/metrics").text, re.MULTILINE))
    variables = {f"${entry['name']}" for entry in DASHBOARD["templating"]["list"]} | set(VARIABLES)
    for title, expression in QUERIES:
        used = re.findall(r"\blinewise_\w+", expression)
        assert used and {re.sub("_(bucket|sum|count)$", "", name) for name in used} <= exposed, title
        assert set(re.findall(r"\$\w+", expression)) <= variables, title


def test_compose_provisions_the_dashboard_and_the_data_source_that_it_uses() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    grafana = {volume.split(":")[0]: volume.split(":")[1] for volume in compose["services"]["grafana"]["volumes"]}
    (provider,) = yaml.safe_load((DEPLOY / "grafana-dashboards.yaml").read_text("utf-8"))["providers"]
    assert Path(grafana["./grafana.json"]).is_relative_to(provider["options"]["path"])
    (source,) = yaml.safe_load((DEPLOY / "grafana-datasources.yaml").read_text("utf-8"))["datasources"]
    host, _, port = source["url"].removeprefix("http://").partition(":")
    assert host in compose["services"] and port == "9090"  # the port that Prometheus listens on by default
    assert source["type"] == DASHBOARD["templating"]["list"][0]["query"] == "prometheus"
    (job,) = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text("utf-8"))["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    assert target.split(":")[0] in compose["services"]
    assert job["authorization"]["credentials_file"] in " ".join(compose["services"]["prometheus"]["command"])
