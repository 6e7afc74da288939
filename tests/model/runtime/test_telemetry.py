"""The runtime reports nothing: no uploader thread, no device identifier, whatever the environment says of CI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os
from linewise.model.network.config import ModelConfig
import onnxruntime
print(os.environ["ORT_DISABLE_TELEMETRY"], len(os.listdir("/proc/self/task")))
"""


def run(home: Path, **environment: str) -> str:
    # onnxruntime itself keeps silent where CI is set.
    inherited = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=inherited | {"HOME": str(home), "OPENBLAS_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return result.stdout.strip()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in Linux's /proc")
def test_onnxruntime_starts_no_uploader_and_keeps_no_identifier(tmp_path: Path) -> None:
    assert run(tmp_path) == "1 1"
    assert not list(tmp_path.iterdir())


def test_the_users_own_setting_wins(tmp_path: Path) -> None:
    assert run(tmp_path, ORT_DISABLE_TELEMETRY="true").split()[0] == "true"
