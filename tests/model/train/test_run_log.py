"""The log of a run that was cut."""

import json
from pathlib import Path

from rich.progress import Progress

from linewise.model.train.run_log import Position, RunLog, plot_curve, read_log


def test_a_torn_last_line_neither_ends_a_resumed_run_nor_spoils_its_next_entry(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(json.dumps({"used": 10, "loss": 2.0}) + "\n" + '{"used": 20, "lo', "utf-8")
    with Progress(disable=True) as progress:
        journal = RunLog(Position(), tmp_path, progress, 60)
    journal.write(loss=1.0)
    entries = read_log(log)
    assert [entry["loss"] for entry in entries] == [2.0, 1.0]
    plot_curve(log, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 5000
