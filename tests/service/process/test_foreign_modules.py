"""Modules of others in the folder where the command starts: none of them runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from linewise.model.network.checkpoint import DEFAULT_PATH
from tests.campaigns.harness import ROOT, TIMEOUT_S, free_port, start

pytestmark = pytest.mark.skipif(not DEFAULT_PATH.exists(), reason="no weights in this tree")

# As the installed script `linewise` starts, whose folder is not that of the user.
SCRIPT = ("-P", "-c", "from linewise.service.cli.main import app; app(prog_name='linewise')")
MODULES = ("model.py", "service/__init__.py", "weights.py", "torch.py", "json.py", "numpy.py", "linewise.py", "PIL.py")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of modules that leave a file beside themselves when they run."""
    for name in MODULES:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text('open(__file__ + ".ran", "w").close()\nraise RuntimeError("this module is not Linewise\'s")\n')
    return tmp_path


def ran(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*.ran")]


def test_the_service_and_its_processes_run_no_module_of_the_folder_they_start_in(folder: Path) -> None:
    port = free_port()
    service = start(port, (*SCRIPT, "serve", "--device", "cpu"), environment={"LINEWISE_THREADS": "1"}, folder=folder)
    try:
        picture = (ROOT / "tests/data/receipt.png").read_bytes()
        url = f"http://127.0.0.1:{port}/recognize?mode=page"
        assert httpx2.post(url, content=picture, timeout=TIMEOUT_S).status_code == 200
    finally:
        service.terminate()
        service.wait(TIMEOUT_S)
    assert ran(folder) == []


def test_a_command_runs_no_module_of_the_folder_it_starts_in(folder: Path) -> None:
    command = [sys.executable, *SCRIPT, "read", "--device", "cpu", str(ROOT / "tests/data/receipt.png")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=folder, env=environment, timeout=TIMEOUT_S
    )
    assert (result.returncode, ran(folder)) == (0, []), result.stderr
    assert result.stdout.strip()
