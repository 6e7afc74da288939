"""docling, as it is published, reads a scanned PDF through the running service.

`LINEWISE_HOSTS_PYTHON` names the Python of an environment with `docling-slim[convert-core,format-pdf]`.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from linewise.model.network.checkpoint import DEFAULT_PATH
from tests.campaigns.harness import ROOT, TIMEOUT_S, service

PYTHON = os.environ.get("LINEWISE_HOSTS_PYTHON", "")
KEY = "a-key-for-docling-only"
EXPECTED = ("CAFÉ LINDE", "48143 Münster", "24.11.2026 14:32", "Cappuccino 6,80", "SUMME EUR 30,90", "Vielen Dank!")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="docling is not installed: LINEWISE_HOSTS_PYTHON names its Python"),
    pytest.mark.skipif(not DEFAULT_PATH.exists(), reason="no weights in this tree"),
]


def test_docling_reads_a_scanned_pdf_through_the_service(tmp_path: Path) -> None:
    pdf = tmp_path / "scan.pdf"
    with Image.open(ROOT / "tests" / "data" / "cafe.jpg") as picture:
        picture.save(pdf, resolution=144)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    with service(environment={"LINEWISE_API_KEYS": KEY, "LINEWISE_REQUEST_TIMEOUT": "60"}) as (port, _):
        driver = Path(__file__).with_name("docling_driver.py")
        result = subprocess.run(
            [PYTHON, driver, f"http://127.0.0.1:{port}", pdf, KEY],
            check=False, capture_output=True, encoding="utf-8", env=environment, timeout=TIMEOUT_S,
        )  # fmt: skip
    assert result.returncode == 0, result.stderr
    for text in EXPECTED:
        assert text in result.stdout
