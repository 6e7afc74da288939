"""Metrics and logs of requests, which never contain text or images."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from linewise import service
from linewise.model import Reading
from linewise.service.logs import log_config

ENDS = ("_total", "_bucket", "_sum", "_count", "_created")
SECRET = "0123456789-secret-key"


def samples(client: TestClient) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = client.get("/metrics").text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(client: TestClient, name: str, **labels: str) -> float:
    return samples(client).get((name, tuple(sorted(labels.items()))), 0.0)


def test_requests_are_counted_by_route_and_status(client: TestClient, picture: bytes) -> None:
    client.post("/recognize", content=picture)
    client.post("/v1/recognize", content=b"hello")  # an alias of the route
    client.get("/no/such/route")
    name = "linewise_http_requests_total"
    assert value(client, name, method="POST", route="/recognize", status="200") == 1
    assert value(client, name, method="POST", route="/recognize", status="415") == 1
    assert value(client, name, method="GET", route="unmatched", status="404") == 1
    assert value(client, "linewise_http_request_seconds_count", route="/recognize") == 2


def test_an_unknown_method_gets_no_label(client: TestClient) -> None:
    client.request("BREW", "/recognize")
    assert not any("BREW" in str(key) for key in samples(client))


def test_batches_and_waits_are_measured(client: TestClient, picture: bytes) -> None:
    client.post("/recognize", content=picture)
    assert value(client, "linewise_images_total") == 1
    assert value(client, "linewise_batch_size_sum") == 1
    assert value(client, "linewise_columns_total") > 0
    for name in ("linewise_queue_wait_seconds", "linewise_inference_seconds"):
        assert value(client, f"{name}_count") == 1


def test_decode_failures_and_rejections_are_counted_by_code(
    make_client: Callable[..., TestClient], picture: bytes
) -> None:
    client = make_client(max_body_bytes=len(picture) + 100)
    client.post("/recognize", content=b"hello")
    client.post("/recognize/batch", files=[("files", picture), ("files", picture[:40]), ("files", b"hello")])
    client.post("/recognize", content=bytes(len(picture) + 101))
    client.post("/recognize", content=picture, params={"detail": "x"})
    assert value(client, "linewise_decode_failures_total", code="unsupported_image") == 2
    assert value(client, "linewise_decode_failures_total", code="undecodable") == 1
    assert value(client, "linewise_rejected_total", reason="body_too_large") == 1
    assert value(client, "linewise_rejected_total", reason="invalid_option") == 1


def test_gauges_follow_the_engine(client: TestClient, fake: Any, picture: bytes) -> None:
    assert value(client, "linewise_ready") == 1
    assert value(client, "linewise_in_flight") == value(client, "linewise_queue_depth") == 0
    client.app.state.engine.drain()  # type: ignore[attr-defined]
    assert value(client, "linewise_ready") == 0


def test_dropped_work_and_model_failures_are_counted(
    make_client: Callable[..., TestClient], fake: Any, picture: bytes
) -> None:
    client = make_client(request_timeout=0.05)
    fake.failure = RuntimeError()
    client.post("/recognize", content=picture)
    assert value(client, "linewise_model_failures_total") == 1
    assert value(client, "linewise_rejected_total", reason="internal") == 1


@pytest.fixture
def as_json() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Log like the server and return the lines so far; dictConfig itself would close pytest's handlers."""
    options = dict(log_config("json", "info")["formatters"]["lines"])
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(options.pop("()")(**options))
    logger = logging.getLogger("linewise")
    logger.addHandler(handler)
    logger.setLevel("INFO")
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logger.removeHandler(handler)
    logger.setLevel("NOTSET")


def test_each_request_is_one_json_line(
    as_json: Callable[[], list[dict[str, Any]]], client: TestClient, picture: bytes
) -> None:
    client.post("/recognize", content=picture, headers={"x-request-id": "abc"})
    (line,) = [line for line in as_json() if line["logger"] == "linewise.access" and line["route"] == "/recognize"]
    assert line["event"] == "request" and line["level"] == "info" and line["timestamp"].endswith("Z")
    assert (line["request_id"], line["method"], line["status"], line["images"]) == ("abc", "POST", 200, 1)
    assert line["bytes_in"] == len(picture)
    assert line["milliseconds"] > 0 and line["problems"] == []


def test_problems_are_logged_with_their_request(
    as_json: Callable[[], list[dict[str, Any]]], client: TestClient, picture: bytes
) -> None:
    client.post("/recognize/batch", files=[("files", picture), ("files", b"hello"), ("files", b"")])
    (line,) = [line for line in as_json() if line.get("route") == "/recognize/batch"]
    assert (line["status"], line["images"]) == (200, 3)
    assert sorted(line["problems"]) == ["empty_file", "unsupported_image"]


def test_neither_text_nor_image_nor_key_nor_filename_nor_query_is_logged(
    as_json: Callable[[], list[dict[str, Any]]], make_client: Callable[..., TestClient], fake: Any, picture: bytes
) -> None:
    client = make_client(api_keys=f"{SECRET}-1")
    headers = {"x-api-key": f"{SECRET}-1"}
    fake.reading = lambda image: Reading(f"{SECRET}-2", 1.0, 1.0, ())
    files = {"file": (f"{SECRET}-3.png", picture)}
    response = client.post("/recognize?detail=text", files=files, headers=headers)
    assert response.json()["text"] == f"{SECRET}-2"
    client.post(f"/recognize?detail={SECRET}", files=files, headers=headers)
    client.post("/recognize", content=SECRET.encode(), headers=headers)
    client.post("/recognize", content=picture, headers={"x-api-key": f"{SECRET}-wrong"})
    logged = json.dumps(as_json())
    assert "request" in logged and SECRET not in logged and "PNG" not in logged


def test_a_bug_is_logged_with_its_traceback_in_one_line(
    as_json: Callable[[], list[dict[str, Any]]], client: TestClient, fake: Any, picture: bytes
) -> None:
    fake.failure = RuntimeError("the cause")
    client.post("/recognize", content=picture, headers={"x-request-id": "abc"})
    (line,) = [line for line in as_json() if line["level"] == "error"]
    assert "the cause" in line["exception"] and "abc" in line["event"]


def test_the_server_logs_in_the_configured_format() -> None:
    code = (
        "import logging, logging.config; from linewise.service.logs import log_config\n"
        "for kind in ('json', 'console'):\n"
        "    logging.config.dictConfig(log_config(kind, 'info'))\n"
        "    logging.getLogger('uvicorn.error').info('hello %s', kind, extra={'color_message': 'x'})\n"
        "    logging.getLogger('uvicorn.access').info('no')\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = result.stderr.splitlines()
    assert json.loads(first)["event"] == "hello json" and "color_message" not in first
    assert "hello console" in second


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
@pytest.mark.parametrize(("kind", "is_json"), [("auto", False), ("json", True), ("console", False)])
def test_logs_are_text_on_a_terminal_unless_json_is_set(kind: str, is_json: bool) -> None:
    code = (
        "import logging, logging.config; from linewise.service.logs import log_config\n"
        f"logging.config.dictConfig(log_config({kind!r}, 'info')); logging.getLogger('linewise').info('hello')\n"
    )
    ours, theirs = os.openpty()
    subprocess.run([sys.executable, "-c", code], stderr=theirs, check=True)
    os.close(theirs)
    shown = os.read(ours, 4096).decode()
    os.close(ours)
    assert "hello" in shown and shown.startswith("{") == is_json
    piped = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    assert piped.startswith("{") == (kind != "console") and "\x1b" not in piped


def test_server_timing_lists_the_stages(client: TestClient, picture: bytes) -> None:
    header = client.post("/recognize", content=picture).headers["server-timing"]
    stages = [part.split(";dur=") for part in header.split(", ")]
    assert [name for name, _ in stages] == ["decode", "queue", "inference", "total"]
    assert all(float(spent) >= 0 for _, spent in stages)


def test_the_dashboard_uses_only_existing_metrics(client: TestClient) -> None:
    dashboard = json.loads((Path(service.__file__).parent / "deploy" / "grafana.json").read_text(encoding="utf-8"))
    exposed = {
        name
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for name in [family.name, *(f"{family.name}_{end}" for end in ("total", "bucket", "sum", "count"))]
    }
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    used = set(re.findall(r"linewise_\w+", " ".join(expressions)))
    assert used and used <= exposed
    covered = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in used}
    assert {name for name in exposed if name.startswith("linewise") and not name.endswith(ENDS)} <= covered


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    dashboard = json.loads((Path(service.__file__).parent / "deploy" / "grafana.json").read_text(encoding="utf-8"))
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    cells = [
        (x, y)
        for position in (panel["gridPos"] for panel in dashboard["panels"])
        for x in range(position["x"], position["x"] + position["w"])
        for y in range(position["y"], position["y"] + position["h"])
    ]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24
