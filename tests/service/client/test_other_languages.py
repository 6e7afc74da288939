"""The manual's snippets run as they are printed, and the OpenAPI document generates a client that reads an image."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests.campaigns.harness import ROOT, TIMEOUT_S

Serve = Callable[..., AbstractContextManager[int]]

ADDRESS = "http://127.0.0.1:8000"
HOSTS_PYTHON = os.environ.get("LINEWISE_HOSTS_PYTHON", "")
RECEIPT = ROOT / "tests" / "data" / "receipt.png"

GENERATED = """
import sys
from generated.api.recognition import recognize_recognize_post as recognize
from generated.client import Client
from generated.types import File

body = File(payload=open(sys.argv[2], "rb"), mime_type="application/octet-stream")
print(recognize.sync(client=Client(base_url=sys.argv[1]), body=body).text)
"""


def snippet(language: str, containing: str) -> str:
    """The one block of a language in the manual that contains a text."""
    manual = (ROOT / "service" / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(rf"^```{language}\n(.*?)^```", manual, re.MULTILINE | re.DOTALL)
    (block,) = (block for block in blocks if containing in block)
    assert isinstance(block, str) and ADDRESS in block
    return block


def output(program: Sequence[str | Path], folder: Path = ROOT, **environment: str) -> str:
    result = subprocess.run(
        program, check=False, capture_output=True, encoding="utf-8", cwd=folder, timeout=TIMEOUT_S,
        env=os.environ | environment,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def expected() -> str:
    """What the fake recogniser reads in the receipt: its mean brightness."""
    return f"{np.asarray(Image.open(RECEIPT)).mean():.0f}"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_snippet_for_a_shell_runs(serve: Serve, expected: str) -> None:
    with serve() as port:
        command = snippet("sh", "--fail-with-body").replace(ADDRESS, f"http://127.0.0.1:{port}")
        assert output(["bash", "-euc", command]).strip() == expected


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_the_snippet_in_javascript_runs(serve: Serve, tmp_path: Path, expected: str) -> None:
    file = tmp_path / "snippet.mjs"
    with serve() as port:
        file.write_text(snippet("js", "fetch").replace(ADDRESS, f"http://127.0.0.1:{port}"), encoding="utf-8")
        assert output(["node", file]).strip() == expected


def test_the_snippet_in_python_runs(serve: Serve, expected: str) -> None:
    with serve() as port:
        program = snippet("python", "from linewise import Client").replace(ADDRESS, f"http://127.0.0.1:{port}")
        first, *others = output([sys.executable, "-c", program]).splitlines()
    assert first.split() == [expected, "0.75"]
    assert len(others) == 2 and all(line.startswith("Result(") for line in others)


@pytest.mark.slow
@pytest.mark.skipif(not HOSTS_PYTHON, reason="openapi-python-client is not installed: see LINEWISE_HOSTS_PYTHON")
def test_a_client_is_generated_from_the_openapi_document(
    serve: Serve, client: TestClient, tmp_path: Path, expected: str
) -> None:
    (tmp_path / "openapi.json").write_text(json.dumps(client.get("/openapi.json").json()), encoding="utf-8")
    environment = {"PYTHONPATH": "", "PATH": os.pathsep.join([str(Path(HOSTS_PYTHON).parent), os.environ["PATH"]])}
    generate = ["openapi-python-client", "generate", "--path", "openapi.json", "--output-path", "generated"]
    output([*generate, "--meta", "none"], tmp_path, **environment)
    output([HOSTS_PYTHON, "-m", "compileall", "-q", "generated"], tmp_path, **environment)
    assert (tmp_path / "generated" / "api" / "inference" / "infer_v2_models_linewise_infer_post.py").exists()
    with serve() as port:
        program: list[str | Path] = [HOSTS_PYTHON, "-c", GENERATED, f"http://127.0.0.1:{port}", RECEIPT]
        assert output(program, tmp_path, **environment).strip() == expected
