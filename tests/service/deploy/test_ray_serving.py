"""The service on a real Ray: equal responses, retries after a lost replica, backpressure, shutdown; import paths."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
import torch
from fastapi.testclient import TestClient

from linewise.model.network.checkpoint import DEFAULT_PATH
from linewise.service.app import create_app
from linewise.service.client import Client
from linewise.service.settings import Replicas, Settings
from tests.service.conftest import FakeReader, draw_line, encode, wait_until_ready

pytest.importorskip("ray", reason="the extra ray is not installed")
needs_weights = pytest.mark.skipif(not DEFAULT_PATH.is_file(), reason="no weights in this tree")

ROOT = Path(__file__).parents[3]
TIMEOUT_S = 240  # Ray is slow on a busy machine


def descendants(pid: int) -> dict[int, str]:
    """Return the ids of all descendants of a process with their command lines."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                names[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except OSError:  # the process has ended
                continue
    below: set[int] = set()
    new = {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - below
        below |= new
    return {child: names.get(child, "") for child in below}


class RayService:
    """``linewise serve --engine ray`` with two replicas of small capacity."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        environment = os.environ | {
            "HOME": str(home),  # where Ray writes its token
            "RAY_ADDRESS": "local",
            "RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES": "100000000",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",  # the default of 15 starves workers on a busy machine
            "LINEWISE_LOG_LEVEL": "error",
            "LINEWISE_RAY_CPUS": "0.5",  # two replicas fit on one core
            "LINEWISE_RAY_MIN_REPLICAS": "2",
            "LINEWISE_RAY_MAX_REPLICAS": "2",
            "LINEWISE_RAY_MAX_REQUESTS": "2",
            "LINEWISE_RAY_MAX_QUEUED": "4",
        }
        self.log = (home / "log").open("wb")
        command = [sys.executable, "-m", "linewise", "serve", "--engine", "ray", "--port", str(self.port)]
        self.process = subprocess.Popen(command, env=environment, stdout=self.log, stderr=self.log)

    def replicas(self) -> set[int]:
        processes = descendants(self.process.pid).items()
        return {pid for pid, name in processes if name.startswith("ray::ServeReplica:linewise")}

    def wait_for(self, replicas: int) -> None:
        """Wait until the service is ready with this number of replicas."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            assert time.monotonic() < deadline and self.process.poll() is None, Path(self.log.name).read_text()[-4000:]
            try:
                answer = httpx2.get(f"{self.url}/healthz/ready", timeout=TIMEOUT_S)
                if answer.status_code == 200 and len(self.replicas()) == replicas:
                    return
            except httpx2.TransportError:
                pass
            time.sleep(0.2)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(TIMEOUT_S)


@pytest.fixture(scope="module")
def ray_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayService]:
    service = RayService(tmp_path_factory.mktemp("ray"))
    try:
        service.wait_for(2)
        yield service
    finally:
        if service.process.poll() is None:
            below = descendants(service.process.pid)
            service.process.terminate()
            try:
                service.process.wait(TIMEOUT_S)
            except subprocess.TimeoutExpired:
                for pid in (service.process.pid, *below):
                    os.kill(pid, signal.SIGKILL)
        service.log.close()


def stable_fields(answer: httpx2.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return {name: value for name, value in body.items() if name not in ("request_id", "timing_ms")}


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Run each pass on one thread, as the service does: sums in bfloat16 depend on how they are split."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@needs_weights
@pytest.mark.usefixtures("one_thread")
def test_a_replica_answers_as_one_process_does(ray_service: RayService) -> None:
    picture = encode(draw_line())
    request: dict[str, Any] = {"content": picture, "params": {"detail": "chars", "alternatives": "2"}}
    with TestClient(create_app(Settings(device="cpu"))) as embedded:
        wait_until_ready(embedded)
        expected = stable_fields(embedded.post("/recognize", **request))
        refused = embedded.post("/recognize", content=b"no picture")
    with httpx2.Client(base_url=ray_service.url, timeout=TIMEOUT_S) as client:
        assert stable_fields(client.post("/recognize", **request)) == expected
        answer = client.post("/recognize", content=b"no picture")
        assert (answer.status_code, answer.json()["code"]) == (refused.status_code, refused.json()["code"])
        assert answer.headers["content-type"] == "application/problem+json"
        batch = client.post("/recognize/batch", files=[("files", picture)] * 3).json()
        assert [item["text"] for item in batch["results"]] == [expected["text"]] * 3


@pytest.mark.slow
@needs_weights
def test_a_request_beyond_the_capacity_of_all_replicas_gets_503_and_retry_after(ray_service: RayService) -> None:
    files = [("files", encode(draw_line(f"number {number} of a long line"))) for number in range(32)]

    def ask(_: int) -> httpx2.Response:
        return httpx2.post(f"{ray_service.url}/recognize/batch", files=files, timeout=TIMEOUT_S)

    with ThreadPoolExecutor(24) as pool:  # 2 at each replica and 4 in the queue
        answers = list(pool.map(ask, range(24)))
    assert {answer.status_code for answer in answers} == {200, 503}
    assert {answer.headers.get("retry-after") for answer in answers if answer.status_code == 503} == {"1"}


@pytest.mark.slow
@needs_weights
def test_requests_that_a_killed_replica_loses_succeed_when_the_client_retries(ray_service: RayService) -> None:
    total = 8 * 12
    texts: list[str] = []
    a_quarter_is_read = threading.Event()

    def ask() -> None:
        with Client(ray_service.url, timeout=TIMEOUT_S) as client:
            for _ in range(total // 8):
                texts.append(client.read(encode(draw_line())).text)
                if len(texts) > total // 4:
                    a_quarter_is_read.set()

    before = ray_service.replicas()
    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask) for _ in range(8)]
        assert a_quarter_is_read.wait(TIMEOUT_S)
        os.kill(min(before), signal.SIGKILL)
        for future in asking:
            future.result()  # raises errors that the client did not retry
    assert len(texts) == total and set(texts) == {texts[0]}
    ray_service.wait_for(2)
    assert min(before) not in ray_service.replicas()


@pytest.mark.slow
@needs_weights
def test_on_sigterm_it_finishes_admitted_requests_and_leaves_no_process_behind(ray_service: RayService) -> None:
    lines = [f"{number} of many long lines, read one after the other" for number in range(64)]
    files = [("files", encode(draw_line(line))) for line in lines]
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(httpx2.post, f"{ray_service.url}/recognize/batch", files=files, timeout=TIMEOUT_S)
        with httpx2.Client(base_url=ray_service.url, timeout=TIMEOUT_S) as client:
            deadline = time.monotonic() + TIMEOUT_S
            while "linewise_in_flight 64.0" not in client.get("/metrics").text:  # of either replica
                assert time.monotonic() < deadline and not answer.done()
        below = descendants(ray_service.process.pid)
        assert ray_service.stop() == 0, Path(ray_service.log.name).read_text()[-4000:]
        assert answer.result().status_code == 200
        assert {item["status"] for item in answer.result().json()["results"]} == {"ok"}
    deadline = time.monotonic() + TIMEOUT_S
    while left := [name for pid, name in below.items() if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


# Replica --------------------------------------------------------------------------------------------------------------


def test_a_replica_is_healthy_only_when_it_is_warm(fake: FakeReader) -> None:
    from linewise.service.ray_serving import Health

    fake.warm_gate.clear()
    app = create_app(Settings(), fake)
    health = Health()
    health.app = app
    with TestClient(app) as client:
        checked = client.portal.start_task_soon(health.check_health)  # type: ignore[union-attr]
        time.sleep(0.3)
        assert not checked.done()
        fake.warm_gate.set()
        checked.result(30)


def test_a_stuck_model_makes_a_replica_unhealthy(fake: FakeReader) -> None:
    from linewise.service.ray_serving import Health

    health = Health()
    for alive in (True, False):
        engine = SimpleNamespace(state=SimpleNamespace(value="ready"), alive=alive)
        health.app = SimpleNamespace(state=SimpleNamespace(engine=engine))  # type: ignore[assignment]
        if alive:
            asyncio.run(health.check_health())
        else:
            with pytest.raises(RuntimeError, match="failed or hangs"):
                asyncio.run(health.check_health())


def test_a_replica_without_the_keys_of_its_command_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    from linewise.service.ray_serving import settings_in_replica

    for name in ("LINEWISE_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    with pytest.raises(RuntimeError, match="no API keys"):
        settings_in_replica(Replicas(), {"host": "127.0.0.1"}, keyed=True)
    with pytest.raises(ValueError, match="no API key"):
        settings_in_replica(Replicas(), {"host": "0.0.0.0"}, keyed=False)
    monkeypatch.setenv("LINEWISE_API_KEYS", "a-key-of-sixteen-characters")
    assert settings_in_replica(Replicas(), {"host": "0.0.0.0"}, keyed=True).api_keys


def test_the_threads_of_a_replica_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    from linewise.service.ray_serving import settings_in_replica

    for cpus, expected in ((4.0, (4, "1")), (0.5, (1, "1"))):
        monkeypatch.setenv("OMP_NUM_THREADS", "4")  # as Ray does
        monkeypatch.setenv("LINEWISE_THREADS", "")
        monkeypatch.delenv("LINEWISE_THREADS")
        settings = settings_in_replica(Replicas(cpus=cpus), {}, keyed=False)
        assert (settings.batch_limits.threads, os.environ["OMP_NUM_THREADS"]) == expected
    monkeypatch.setenv("LINEWISE_THREADS", "2")
    settings = settings_in_replica(Replicas(cpus=4), {}, keyed=False)
    assert (settings.batch_limits.threads, os.environ["OMP_NUM_THREADS"]) == (2, "2")


# Import paths ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["linewise.service.ray_serving", "service.ray_serving"])
def test_a_checkout_offers_the_application_by_both_import_paths(module: str) -> None:
    code = f"from {module} import build; print(build.__module__, build.__name__)"
    result = subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, f"{module} build\n"), result.stderr
