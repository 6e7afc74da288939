"""CPU cores granted to this process, and their division among model threads."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def granted_cores(cgroup: Path = CGROUP) -> int:
    """Return the whole cores of the affinity mask or the cgroup quota (v1 or v2), whichever is less; at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    return affinity if quota is None else max(1, min(affinity, int(quota)))


def share_cores(threads: int) -> None:
    """Set ``OMP_NUM_THREADS`` to the granted cores per model thread, unless it is set; call before loading a model."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, granted_cores() // threads)))


def _quota(cgroup: Path) -> float | None:
    """CPU seconds per second that the cgroup allows; None without a limit."""
    try:
        if (cgroup / "cpu.max").is_file():
            budget, period = (cgroup / "cpu.max").read_text().split()
        else:
            budget = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        return int(budget) / int(period) if budget not in ("max", "-1") else None
    except (OSError, ValueError, ZeroDivisionError):  # missing or unknown files: no limit
        return None
