"""Start of the real service: in a sandbox, on one core, with damaged weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from linewise.model.network.checkpoint import DEFAULT_PATH
from tests.campaigns.harness import ROOT, TIMEOUT_S, children, free_port, start

needs_weights = pytest.mark.skipif(not DEFAULT_PATH.exists(), reason="no weights in this tree")

# Runs with its own loopback device as the only network, read-only file systems and an unprivileged user.
IN_SANDBOX = """
import base64, errno, json, os, socket, sys
from tests.campaigns.harness import service
import urllib.request
assert os.geteuid() != 0, "this is root"
for folder in (".", "/tmp", "/dev/shm", os.path.expanduser("~")):
    try:
        open(os.path.join(folder, "written-by-a-test"), "w")
    except OSError as error:
        assert error.errno in (errno.EROFS, errno.EACCES, errno.ENOENT), error
    else:
        raise AssertionError(f"{folder} is writable")
def packets_without_route():
    v4, v6 = (open(f"/proc/net/{name}").read().splitlines() for name in ("snmp", "snmp6"))
    names, values = (line.split() for line in v4 if line.startswith("Ip:"))
    return int(values[names.index("OutNoRoutes")]) + sum(int(v.split()[1]) for v in v6 if "Ip6OutNoRoutes" in v)
try:
    socket.create_connection(("192.0.2.1", 80), timeout=5)
except OSError as error:
    assert error.errno == errno.ENETUNREACH, error
before = packets_without_route()
assert before > 0, "the kernel did not count the attempt"
with service(environment={"LINEWISE_THREADS": "1", "LINEWISE_REQUEST_TIMEOUT": "120"}) as (port, pid):
    def post(path, data, **headers):
        names = {"Content-Type": "application/octet-stream"} | {n.replace("_", "-"): v for n, v in headers.items()}
        return urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, names)).read()
    line, page = (open(f"tests/data/{name}", "rb").read() for name in ("receipt.png", "cafe.jpg"))
    pdf = post("/recognize?mode=page", page, Accept="application/pdf")
    images = [{"id": "a", "image": base64.b64encode(line).decode()}, {"id": "b", "image": "AAAA"}]
    answers = {
        "line": post("/recognize", line),
        "page": post("/recognize?mode=page", page),
        "pdf": post("/recognize?mode=page", pdf),
        "batch": post("/recognize/batch", json.dumps({"images": images}).encode(), Content_Type="application/json"),
    }
    print(json.dumps({name: json.loads(answer) for name, answer in answers.items()}))
assert packets_without_route() == before, "something tried to reach the network"
"""
LOOPBACK_UP = (
    "import fcntl, socket, struct; fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh', b'lo', 1))"  # SIOCSIFFLAGS
)
SANDBOX = f"""
{sys.executable} -c "{LOOPBACK_UP}" || exit 9
for mount in $(cut -d' ' -f5 /proc/self/mountinfo); do
    case $mount in /proc*|/sys*) ;; *) mount -o remount,bind,ro $mount 2>/dev/null;; esac
done
exec unshare --user {sys.executable} -c "$0"
"""


@pytest.mark.slow
@needs_weights
def test_it_reads_lines_pages_pdf_and_batches_without_network_root_or_a_writable_disk() -> None:
    pytest.importorskip("pypdfium2", reason="the extra pdf is not installed")
    pytest.importorskip("fpdf", reason="the extra pdf is not installed")
    command = ["unshare", "--user", "--map-root-user", "--mount", "--net", "sh", "-c", SANDBOX, IN_SANDBOX]
    try:
        subprocess.run(
            ["unshare", "--user", "--map-root-user", "--mount", "--net", "true"], check=True, timeout=TIMEOUT_S
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this system does not allow unprivileged namespaces")
    environment = os.environ | {"PYTHONPATH": str(ROOT / ".package"), "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=TIMEOUT_S
    )
    assert result.returncode == 0, result.stderr
    answers = json.loads(result.stdout)
    assert answers["line"]["text"] == "TOTAL EUR 12.50"
    assert len(answers["page"]["lines"]) > 5
    assert len(answers["pdf"]["lines"]) > 5
    first, second = answers["batch"]["results"]
    assert first["text"] == answers["line"]["text"] and second["status"] == "error"


def flip_a_bit(path: Path, data: bytes) -> None:
    damaged = bytearray(data)
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)


@needs_weights
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip_a_bit, "is damaged: its content does not match its SHA-256"),
        (lambda path, data: None, "cannot open the checkpoint"),
    ],
    ids=["flipped bit", "missing"],
)
def test_damaged_weights_stop_the_start_with_one_line(
    tmp_path: Path, damage: Callable[[Path, bytes], None], message: str
) -> None:
    weights = tmp_path / "weights.safetensors"
    damage(weights, DEFAULT_PATH.read_bytes())
    result = subprocess.run(
        [sys.executable, "-m", "linewise", "serve", "--port", "0"],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"LINEWISE_WEIGHTS": str(weights)},
        timeout=TIMEOUT_S,
    )
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("linewise: ") and message in line and str(weights) in line


ON_ONE_CORE = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from linewise.service.cli.main import app
app(["serve"])
"""


@needs_weights
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="threads are bound to cores on Linux only")
def test_on_one_granted_core_there_is_one_thread_for_each_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    picture = (ROOT / "tests/data/receipt.png").read_bytes()
    port = free_port()
    process = start(port, ("-c", ON_ONE_CORE))
    try:
        with ThreadPoolExecutor(8) as clients:
            url = f"http://127.0.0.1:{port}/recognize"
            answers = clients.map(lambda _: httpx2.post(url, content=picture, timeout=TIMEOUT_S).status_code, range(24))
            assert set(answers) == {200}
        (child,) = children(process.pid)
        service_threads, model_threads = (
            [(task / "comm").read_text().strip() for task in Path(f"/proc/{pid}/task").iterdir()]
            for pid in (process.pid, child)
        )
    finally:
        process.terminate()
        process.wait(TIMEOUT_S)
    # Event loop, model thread, image decoder, warm-up waiter, and waiter for the exit of the model process; libuv's own
    # threads stay idle.
    assert len([thread for thread in service_threads if thread != "libuv-worker"]) <= 5, service_threads
    # Waiter for the exit of the parent, reader, and page detector.
    assert len(model_threads) <= 3, model_threads
