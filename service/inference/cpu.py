"""How many processor cores this process was really granted."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def granted_cores(cgroup: Path = CGROUP) -> int:
    """Whole cores, at least one: the smaller of the affinity mask and the container's quota (cgroup version 1 or 2)."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    return affinity if quota is None else max(1, min(affinity, int(quota)))


def share_cores(threads: int) -> None:
    """Give each of so many model threads its part of the granted cores; to be called before torch is imported.

    A number that the environment sets already stays.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, granted_cores() // threads)))


def _quota(cgroup: Path) -> float | None:
    """Cores' worth of time per second, or None without a limit."""
    try:
        if (cgroup / "cpu.max").is_file():
            budget, period = (cgroup / "cpu.max").read_text().split()
        else:
            budget = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        return int(budget) / int(period) if budget not in ("max", "-1") else None
    except (OSError, ValueError, ZeroDivisionError):  # no such files, or none that we understand: no limit
        return None
