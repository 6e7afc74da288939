"""Reading in float32 on a CPU imports no torch, and works where torch is not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from linewise.model.network.checkpoint import DEFAULT_PATH
from tests.campaigns.harness import ROOT, TIMEOUT_S

pytestmark = pytest.mark.skipif(not DEFAULT_PATH.exists(), reason="no weights in this tree")

RECEIPT = ROOT / "tests/data/receipt.png"

READ = """
import sys
import numpy as np
from PIL import Image
import linewise
reader = linewise.load()
pages = linewise.load_page_reader(reader=reader)
picture = np.asarray(Image.open(sys.argv[1]).convert("RGB"))
(line,) = reader.read([picture], [reader.decoding(alternatives=3)])
(probability,) = reader.probabilities([picture], [line.text])
assert line.alternatives and probability > 0.9, (line, probability)
page = pages.read(np.pad(picture, ((40, 60), (30, 30), (0, 0)), constant_values=255))
print(reader.device, reader.precision, line.text, *page.text.split("\\n"), sep="|")
"""

# The modules of a worker after a warm-up and a read, as the service starts it.
WORKER = """
import sys
from linewise.service.inference.worker import _Worker
from linewise import model
import numpy as np
worker = _Worker(model.load(device="cpu", precision="float32"))
worker.warm_up()
worker.read([np.full((32, 100), 255, np.uint8)], None)
worker.detect(np.full((300, 300), 255, np.uint8))
print(sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "matplotlib", "scipy", "onnx", "fastapi"}))
"""


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        check=False, capture_output=True, text=True, env=os.environ | environment, timeout=TIMEOUT_S,
    )  # fmt: skip


@pytest.fixture
def without_torch(tmp_path: Path) -> dict[str, str]:
    """Environment of processes, and processes that they start, that import torch as if it were not installed."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = None\n")
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}


def test_a_line_and_a_page_are_read_without_torch(without_torch: dict[str, str]) -> None:
    without, with_torch = run("-c", READ, RECEIPT, **without_torch), run("-c", READ, RECEIPT)
    assert without.returncode == 0, without.stderr
    device, precision, line, *page = without.stdout.strip().split("|")
    assert (device, precision) == ("cpu", "float32")
    assert line == "TOTAL EUR 12.50" and line in page
    if with_torch.stdout.startswith("cpu|float32"):
        assert with_torch.stdout == without.stdout


def test_the_worker_of_a_cpu_imports_no_torch() -> None:
    result = run("-c", WORKER)
    assert result.stdout.strip() in ("[]", "['onnx']"), result.stderr


def test_the_command_line_reads_lines_and_pages_without_torch(without_torch: dict[str, str]) -> None:
    for options in ((), ("--page",)):
        result = run("-m", "linewise", "read", *options, RECEIPT, **without_torch)
        assert (result.returncode, result.stdout, result.stderr) == (0, "TOTAL EUR 12.50\n", "")


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (("read", "--device", "cuda", RECEIPT), {}),
        (("read", RECEIPT), {"LINEWISE_DEVICE": "cuda:1"}),
        (("read", RECEIPT), {"LINEWISE_PRECISION": "bfloat16"}),
        (("serve", "--port", "0"), {"LINEWISE_PRECISION": "int8"}),
        (("serve", "--port", "0"), {"LINEWISE_DEVICE": "cuda"}),
        (("train",), {}),
        (("train-pages",), {}),
        (("average", DEFAULT_PATH), {}),
        (("bench",), {}),
        (("calibrate", DEFAULT_PATH, "out"), {}),
    ],
)
def test_what_needs_torch_says_so_in_one_line(
    without_torch: dict[str, str], arguments: tuple[str | Path, ...], environment: dict[str, str]
) -> None:
    result = run("-m", "linewise", *arguments, **without_torch | environment)
    assert (result.returncode, result.stdout) == (1, ""), result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("linewise: ") and "pip install 'linewise[t" in result.stderr
