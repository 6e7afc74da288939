"""The server process: signals, drain and exit codes."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

from linewise.service.server import page_address

# A service whose model waits until the file named by GATE exists, and loses its device on a colour image.
PROGRAM = """
import os, sys, time
from linewise.model import Reading
from linewise.service.app import create_app
from linewise.service.server import run
from linewise.service.settings import Settings

class AcceleratorError(RuntimeError): ...

class Slow:
    model_id, revision, device = "slow", "sha256:00", "cpu"
    def warm_up(self): ...
    def width_bucket(self, height, width): return 64
    def read(self, images, decodings):
        if any(image.ndim == 3 for image in images):
            raise AcceleratorError("device lost")
        while not os.path.exists(os.environ["GATE"]):
            time.sleep(0.005)
        return [Reading("text", 1.0, 1.0, ()) for _ in images]

settings = Settings()
sys.exit(run(create_app(settings, Slow()), settings))
"""


class Service:
    """A service in its own process."""

    def __init__(self, gate: Path, **settings: str) -> None:
        self.gate = gate
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.http = httpx2.Client(  # one for all requests, since creating one takes as long as several requests
            base_url=f"http://127.0.0.1:{self.port}", timeout=60, limits=httpx2.Limits(max_keepalive_connections=0)
        )
        environment = {f"LINEWISE_{name.upper()}": value for name, value in settings.items()}
        environment |= {"LINEWISE_PORT": str(self.port), "GATE": str(gate)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], env=os.environ | environment, stderr=subprocess.PIPE, text=True
        )
        self.until(lambda: self.get("/healthz/ready").status_code == 200)

    def get(self, path: str) -> httpx2.Response:
        return self.http.get(path)

    def post(self, data: bytes) -> httpx2.Response:
        return self.http.post("/recognize", content=data)

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while True:
            assert time.monotonic() < deadline
            try:
                if condition():
                    return
            except httpx2.TransportError:
                assert self.process.poll() is None
            time.sleep(0.01)

    def closed(self) -> bool:
        """Whether the port refuses connections."""
        try:
            self.get("/healthz/live")
        except httpx2.ConnectError:
            return True
        return False

    def in_flight(self) -> float:
        lines = self.get("/metrics").text.splitlines()
        return float(next(line for line in lines if line.startswith("linewise_in_flight ")).split()[1])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Return a function that starts a service, whose model waits only if ``gate_open`` is false."""
    started: list[Service] = []

    def begin(*, gate_open: bool = True, **settings: str) -> Service:
        gate = tmp_path / "gate"
        if gate_open:
            gate.touch()
        service = Service(gate, **settings)
        started.append(service)
        return service

    yield begin
    for service in started:
        service.http.close()
        service.process.kill()
        service.process.communicate()


def bitmap(mode: str = "L") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (5, 20), 200 if mode == "L" else (255, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def test_sigterm_finishes_admitted_requests_and_exits_with_zero(start: Callable[..., Service]) -> None:
    service = start(gate_open=False)
    answers: list[Any] = []
    clients = [threading.Thread(target=lambda: answers.append(service.post(bitmap()))) for _ in range(4)]
    for client in clients:
        client.start()
    service.until(lambda: service.in_flight() == 4)
    service.process.send_signal(signal.SIGTERM)
    service.until(service.closed)
    service.gate.touch()
    for client in clients:
        client.join()
    assert [answer.status_code for answer in answers] == [200] * 4
    assert service.process.wait(30) == 0


def test_during_the_drain_delay_it_is_not_ready_and_serves(start: Callable[..., Service]) -> None:
    service = start(drain_delay="20")
    service.process.send_signal(signal.SIGTERM)
    service.until(lambda: service.get("/healthz/ready").json() == {"status": "draining"})
    assert service.post(bitmap()).status_code == 200, "load balancers still send requests"
    assert service.get("/healthz/ready").json() == {"status": "draining"}
    assert service.get("/healthz/live").status_code == 200
    service.process.send_signal(signal.SIGTERM)  # the second one stops at once
    assert service.process.wait(30) == 0


def test_after_the_drain_delay_the_port_closes_and_the_process_ends(start: Callable[..., Service]) -> None:
    service = start(gate_open=False, drain_delay="0.5")
    service.process.send_signal(signal.SIGTERM)
    service.until(lambda: service.get("/healthz/ready").json() == {"status": "draining"})
    answers: list[Any] = []
    client = threading.Thread(target=lambda: answers.append(service.post(bitmap())))
    client.start()
    service.until(service.closed)
    service.gate.touch()
    client.join()
    assert [answer.status_code for answer in answers] == [200]
    assert service.process.wait(30) == 0


def test_a_lost_device_ends_the_process_with_an_error(start: Callable[..., Service]) -> None:
    service = start()
    assert service.post(bitmap("RGB")).json()["code"] == "not_ready"
    assert service.process.wait(30) == 1


def broken_tiff() -> bytes:
    """Encode a TIFF on which libtiff would write to standard error."""
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(buffer, "TIFF", compression="tiff_lzw")
    data = buffer.getvalue()
    return data[:100] + bytes(500) + data[600:]


def test_the_log_is_json_line_by_line(start: Callable[..., Service]) -> None:
    service = start()
    service.post(bitmap())
    assert service.post(broken_tiff()).status_code == 422
    service.process.send_signal(signal.SIGTERM)
    _, errors = service.process.communicate(timeout=30)
    lines = [json.loads(line) for line in errors.splitlines()]
    assert any(line.get("route") == "/recognize" and line["status"] == 200 for line in lines)


STUCK_DECODER = """
import time
from linewise.service.documents import multipage
multipage.decode = lambda *args, **options: time.sleep(600)
"""


def test_sigterm_ends_the_process_although_a_decoder_is_stuck(
    start: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "PROGRAM", STUCK_DECODER + PROGRAM)
    service = start(request_timeout="0.5", drain_timeout="2")
    assert service.post(bitmap()).json()["code"] == "deadline_exceeded"
    service.process.send_signal(signal.SIGTERM)
    _, errors = service.process.communicate(timeout=30)
    assert service.process.returncode == 0
    assert "exit without 1 stuck decoders" in errors


def test_the_start_logs_the_address_to_open(start: Callable[..., Service]) -> None:
    service = start()
    service.process.terminate()
    _, stderr = service.process.communicate(timeout=60)
    events = [json.loads(line)["event"] for line in stderr.splitlines()]
    assert f"open http://127.0.0.1:{service.port}/" in events


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:80/"),
        ("0.0.0.0", "http://127.0.0.1:80/"),
        ("::", "http://[::1]:80/"),
        ("::1", "http://[::1]:80/"),
        ("ocr.example", "http://ocr.example:80/"),
    ],
)
def test_the_address_can_be_opened_on_this_machine(host: str, address: str) -> None:
    assert page_address(host, 80) == address
