"""Wait policy of OpenMP, which is set before torch loads the library."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ENTRANCES = ("linewise", "linewise.model", "linewise.service.cli.main", "linewise.service.inference.worker")


def wait_policy(entrance: str, environment: dict[str, str]) -> str:
    """`OMP_WAIT_POLICY` in a fresh process that has imported an entrance and not yet torch."""
    program = f"import os, sys, {entrance}; assert 'torch' not in sys.modules; print(os.environ['OMP_WAIT_POLICY'])"
    inherited = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    command = [sys.executable, "-c", program]
    result = subprocess.run(
        command, env=inherited | environment, check=True, capture_output=True, text=True, timeout=300
    )
    return result.stdout.strip()


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_idle_threads_sleep_rather_than_spin(entrance: str) -> None:
    assert wait_policy(entrance, {}) == "PASSIVE"


def test_the_users_wait_policy_wins() -> None:
    assert wait_policy("linewise", {"OMP_WAIT_POLICY": "ACTIVE"}) == "ACTIVE"
