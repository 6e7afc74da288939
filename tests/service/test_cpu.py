"""The thread budget is what was granted, not what the machine has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from linewise.service.cpu import granted_cores


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


@pytest.mark.parametrize(
    ("limit", "cores"),
    [("max 100000", 8), ("100000 100000", 1), ("250000 100000", 2), ("50000 100000", 1), ("9900000 100000", 8)],
)
def test_a_container_quota_of_cgroup_2_is_obeyed(tmp_path: Path, eight_cores: None, limit: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(limit + "\n")
    assert granted_cores(tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", 8), ("300000", 3)])
def test_a_container_quota_of_cgroup_1_is_obeyed(tmp_path: Path, eight_cores: None, quota: str, cores: int) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota + "\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert granted_cores(tmp_path) == cores


@pytest.mark.parametrize("content", ["", "nonsense", "1 0"])
def test_without_a_readable_quota_the_affinity_counts(tmp_path: Path, eight_cores: None, content: str) -> None:
    assert granted_cores(tmp_path) == 8
    (tmp_path / "cpu.max").write_text(content)
    assert granted_cores(tmp_path) == 8
