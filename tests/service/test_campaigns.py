"""Short forms of the campaigns in tests/campaigns that need no weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.campaigns import lost, restart


def outcomes(account: dict[str, Any]) -> set[str]:
    return set(account["outcomes"])


def test_whatever_fails_and_whoever_leaves_every_request_gets_its_answer_and_the_log_keeps_quiet(
    tmp_path: Path,
) -> None:
    account = lost.run(requests=260, kills=1, seed=1, clients=32, log=tmp_path / "log")
    assert not account["failed"], account
    assert {"200", "422", "500", "503", "left"} <= outcomes(account), "all kinds occurred"


def test_a_rolling_restart_loses_nothing_and_resets_nobody(tmp_path: Path) -> None:
    account = restart.run(restarts=2, clients=8, delay=restart.DELAY, log=tmp_path / "log")
    assert not account["failed"], account
    assert "200" in outcomes(account) and account["exits"] == [0, 0]
