"""How the real service starts: with nothing but its files, on one core, and not at all with damaged weights."""

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
from tests.campaigns.harness import PATIENCE, ROOT, children, free_port, start

needs_weights = pytest.mark.skipif(not DEFAULT_PATH.exists(), reason="no weights in this tree")

# Run with no network but a loopback device of its own, every file system read-only, as nobody in particular.
IN_A_CAGE = """
import errno, json, os, socket, sys
from tests.campaigns.harness import service
import urllib.request
assert os.geteuid() != 0, "this is root"
for place in (".", "/tmp", "/dev/shm", os.path.expanduser("~")):
    try:
        open(os.path.join(place, "written-by-a-test"), "w")
    except OSError as error:
        assert error.errno in (errno.EROFS, errno.EACCES, errno.ENOENT), error
    else:
        raise AssertionError(f"{place} can be written to")
try:
    socket.create_connection(("192.0.2.1", 80), timeout=5)
except OSError as error:
    assert error.errno == errno.ENETUNREACH, error
with service(environment={"LINEWISE_THREADS": "1"}) as (port, pid):
    picture = open("tests/data/receipt.png", "rb").read()
    asked = urllib.request.Request(f"http://127.0.0.1:{port}/recognize", picture, {"Content-Type": "image/png"})
    print(urllib.request.urlopen(asked).read().decode())
"""
LOOPBACK_UP = (
    "import fcntl, socket, struct; fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh', b'lo', 1))"  # SIOCSIFFLAGS
)
CAGE = f"""
{sys.executable} -c "{LOOPBACK_UP}" || exit 9
for place in $(cut -d' ' -f5 /proc/self/mountinfo); do
    case $place in /proc*|/sys*) ;; *) mount -o remount,bind,ro $place 2>/dev/null;; esac
done
exec unshare --user {sys.executable} -c "$0"
"""


@needs_weights
def test_it_starts_and_reads_without_network_root_or_a_writable_disk() -> None:
    caged = ["unshare", "--user", "--map-root-user", "--mount", "--net", "sh", "-c", CAGE, IN_A_CAGE]
    try:
        subprocess.run(
            ["unshare", "--user", "--map-root-user", "--mount", "--net", "true"], check=True, timeout=PATIENCE
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this system lets nobody make namespaces")
    environment = os.environ | {"PYTHONPATH": str(ROOT / ".package"), "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(
        caged, check=False, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=PATIENCE
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["text"]


def flipped(path: Path, data: bytes) -> None:
    damaged = bytearray(data)
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)


@needs_weights
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (flipped, "is damaged: its content does not match its SHA-256"),
        (lambda path, data: None, "cannot open the checkpoint"),
    ],
    ids=["flipped bit", "missing"],
)
def test_spoiled_weights_stop_the_start_with_one_line(
    tmp_path: Path, spoil: Callable[[Path, bytes], None], said: str
) -> None:
    weights = tmp_path / "weights.safetensors"
    spoil(weights, DEFAULT_PATH.read_bytes())
    result = subprocess.run(
        [sys.executable, "-m", "linewise", "serve", "--port", "0"],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"LINEWISE_WEIGHTS": str(weights)},
        timeout=PATIENCE,
    )
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("linewise: ") and said in line and str(weights) in line


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
            answers = clients.map(lambda _: httpx2.post(url, content=picture, timeout=PATIENCE).status_code, range(24))
            assert set(answers) == {200}
        (child,) = children(process.pid)
        tasks, its = (
            [(task / "comm").read_text().strip() for task in Path(f"/proc/{pid}/task").iterdir()]
            for pid in (process.pid, child)
        )
    finally:
        process.terminate()
        process.wait(PATIENCE)
    # The event loop, the model's thread, a decoder, the one that waited until the model was warm, and the one that
    # waits for its process to end; libuv's own are never used.
    assert len([task for task in tasks if task != "libuv-worker"]) <= 5, tasks
    # One that waits for the end, one that reads, and one for the decoder, which has pages looked at.
    assert len(its) <= 3, its
