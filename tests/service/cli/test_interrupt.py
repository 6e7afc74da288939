"""Ctrl+C while the model loads: one line, the exit code of an interrupted program, and no process left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from linewise.model.network.checkpoint import DEFAULT_PATH
from tests.campaigns.harness import ROOT, TIMEOUT_S, children

pytestmark = pytest.mark.skipif(not DEFAULT_PATH.exists(), reason="no weights in this tree")


def wait_until_model_loads(process: subprocess.Popen[str], *, in_child: bool) -> int:
    """Wait until the process or its child maps onnxruntime; returns the id of the one that does."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        for pid in children(process.pid) if in_child else [process.pid]:
            if "onnxruntime" in Path(f"/proc/{pid}/maps").read_text():
                return pid
        time.sleep(0.01)
    raise AssertionError("onnxruntime is not loaded")


@pytest.mark.parametrize("command", [["serve", "--port", "0"], ["read", str(ROOT / "tests/data/receipt.png")]])
def test_ctrl_c_while_the_model_loads_ends_with_one_line(command: list[str]) -> None:
    program = [sys.executable, "-m", "linewise", *command, "--device", "cpu"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        loading = wait_until_model_loads(process, in_child=command[0] == "serve")
        os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it to all processes of its foreground
        stdout, stderr = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, stdout, stderr) == (130, "", "linewise: interrupted\n")
    assert not Path(f"/proc/{loading}").exists()
