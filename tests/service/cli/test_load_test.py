"""The command ``linewise load`` against a real service."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from typer.testing import CliRunner

from linewise.service.app import create_app
from linewise.service.cli import main
from linewise.service.cli.load_test import Exchange, Report
from linewise.service.settings import Settings


class FakeClock:
    """A clock that advances by 10 ms each time it is read."""

    def __init__(self) -> None:
        self.reads = 0

    def perf_counter(self) -> float:
        self.reads += 1
        return self.reads / 100

    def monotonic(self) -> float:
        return self.reads / 100


@pytest.fixture
def url(fake: Any) -> Iterator[str]:
    app = create_app(Settings(), fake)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not (server.started and app.state.engine.ready):
        time.sleep(0.002)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def images(tmp_path: Path, picture: bytes) -> Path:
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(picture)
    return tmp_path


def run(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(main.app, ["load", "--json", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    figures: dict[str, Any] = json.loads(result.stdout)
    return figures


def test_every_response_is_counted(url: str, images: Path, fake: Any) -> None:
    figures = run(url, images, "--clients", 3, "--seconds", 0.3)
    assert figures["statuses"] == {"200": len(fake.seen)}
    assert figures["images_per_s"] == pytest.approx(len(fake.seen) / figures["seconds"], rel=0.02)
    assert 0 < figures["p50_ms"] <= figures["p95_ms"] <= figures["p99_ms"]


def test_images_of_batches_are_counted_one_by_one(
    url: str, images: Path, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linewise.service.cli.load_test.time", FakeClock())
    figures = run(url, images, "--clients", 1, "--seconds", 0.21, "--batch", 4)
    assert figures["statuses"] == {"200": 7}  # each request reads the clock three times
    assert len(fake.seen) == 4 + 1 + 4 + 1 + 4 + 1 + 4  # five images in batches of four
    assert figures["images_per_s"] == round(len(fake.seen) / figures["seconds"], 1)


def test_the_rate_does_not_depend_on_the_responses(url: str, images: Path, fake: Any) -> None:
    figures = run(url, images, "--rate", 200, "--seconds", 0.5)
    assert 60 <= sum(figures["statuses"].values()) <= 140


def test_error_responses_are_counted_apart_from_results(url: str, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"hello")
    figures = run(url, tmp_path, "--clients", 1, "--seconds", 0.1)
    assert list(figures["statuses"]) == ["415"]
    assert figures["images_per_s"] == figures["p50_ms"] == 0.0 < figures["refusal_p50_ms"]


def test_a_lost_connection_is_status_zero(images: Path) -> None:
    assert list(run("http://127.0.0.1:9", images, "--clients", 1, "--seconds", 0.1)["statuses"]) == ["0"]


def test_percentiles_are_of_the_sorted_times() -> None:
    report = Report(1.0, [Exchange(0.0, seconds / 1000.0, 200, 1) for seconds in range(100, 0, -1)])
    assert (report.percentile(50, good=True), report.percentile(99, good=True)) == (51.0, 100.0)
