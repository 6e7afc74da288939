"""The container image, built from nothing and run, where the tools for it are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tests.campaigns.harness import ROOT


@pytest.mark.slow
@pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, ("buildah", "debootstrap", "curl", "unshare"))),
    reason="needs root, buildah, debootstrap, curl and unshare",
)
def test_the_image_is_built_reads_stops_and_tells_why_it_cannot_start() -> None:
    command = [sys.executable, "-m", "tests.campaigns.container"]
    result = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
