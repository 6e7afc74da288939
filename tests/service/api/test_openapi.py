"""Requests and responses conform to the OpenAPI document."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

HERE = Path(__file__).parent
KEY = "a-key-for-schemathesis"
EXAMPLES = os.environ.get("LINEWISE_SCHEMATHESIS_EXAMPLES", "10")  # per operation, besides the systematic ones


@pytest.mark.slow
def test_the_service_conforms_to_its_openapi_document(serve: Callable[..., AbstractContextManager[int]]) -> None:
    program = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml"), "--no-color"]
    with serve(api_keys=KEY) as port:
        result = subprocess.run(
            [*program, "run", f"http://127.0.0.1:{port}/openapi.json", "--max-examples", EXAMPLES],
            check=False,
            capture_output=True,
            text=True,
            cwd=HERE.parents[2],
            env=os.environ | {"LINEWISE_API_KEYS": KEY},
            timeout=570,
        )
    assert result.returncode == 0, result.stdout + result.stderr
