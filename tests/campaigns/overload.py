"""As much as the service can do, twice and five times that: who is answered, how late, and how soon the rest is told.

    python -m tests.campaigns.overload lines/ --seconds 20 --plot overload.png

finds the most that 32 clients get out of a service with the shipped weights, then sends single pictures at random
moments at so many times that rate, whatever becomes of the ones before. Exits with 1 when an answer is neither 200 nor
503, when a connection is lost, or when an admitted request is answered after its deadline. It shares the cores with the
service, so that its figures are the least that a service by itself would reach.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linewise.service.bulk.sources import image_files
from linewise.service.cli.load_test import Report, closed_loop, open_loop
from linewise.service.settings import Settings
from tests.campaigns.harness import service

CLIENTS = 32
TIMES = (1.0, 2.0, 5.0)
SETTLED = 2.0  # seconds after which the queue is full and the rest of the overload is like its end


@dataclass(frozen=True)
class Round:
    """What came of an overload of so many ``times`` the service's peak."""

    times: float
    report: Report

    @property
    def settled(self) -> Report:
        """The exchanges after the first moments."""
        began = min((one.sent for one in self.report.exchanges), default=0.0)
        late = [one for one in self.report.exchanges if one.sent - began > SETTLED]
        return Report(max(1e-9, self.report.seconds - SETTLED), late)


async def campaign(port: int, pictures: Sequence[bytes], seconds: float) -> tuple[float, list[Round]]:
    """Images per second at the peak, and the rounds."""
    url = f"http://127.0.0.1:{port}"
    await closed_loop(url, pictures, clients=CLIENTS, seconds=min(5.0, seconds))  # warms it up
    peak = (await closed_loop(url, pictures, clients=CLIENTS, seconds=seconds)).images_per_second
    rounds = []
    for times in TIMES:
        rounds.append(Round(times, await open_loop(url, pictures, rate=times * peak, seconds=seconds)))
        await asyncio.sleep(1.0)
    return peak, rounds


def account(peak: float, rounds: Sequence[Round]) -> dict[str, Any]:
    """The figures: images per second, milliseconds, and what went wrong."""
    deadline = Settings().request_timeout
    wrong = [
        f"{each.times:g} times: {count} x {status or 'lost'}"
        for each in rounds
        for status, count in each.report.statuses.items()
        if status not in (200, 503)
    ]
    wrong += [
        f"{each.times:g} times: {late} answers after the deadline"
        for each in rounds
        if (late := sum(one.status == 200 and one.seconds > deadline + 1 for one in each.report.exchanges))
    ]
    return {
        "peak_images_per_s": round(peak, 1),
        "rounds": [
            {
                "times": each.times,
                "offered_per_s": round(each.times * peak, 1),
                "goodput_of_peak": round(each.report.images_per_second / peak, 3) if peak else 0.0,
                **each.report.as_dict(),
                "settled_refusal_p50_ms": each.settled.percentile(50, good=False),
                "settled_refusal_p99_ms": each.settled.percentile(99, good=False),
            }
            for each in rounds
        ],
        "wrong": wrong,
    }


def plot(peak: float, rounds: Sequence[Round], picture: Path) -> None:
    """Goodput over what is offered, and the time of every answer over the seconds of the worst round."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    offered = [each.times * peak for each in rounds]
    left.plot(offered, [each.report.images_per_second for each in rounds], marker="o", label="answered")
    left.axhline(peak, color="grey", linewidth=0.8, label="peak")
    left.set(xlabel="requests a second", ylabel="images a second", ylim=(0, None), title="goodput")
    left.legend()
    worst = rounds[-1].report.exchanges
    began = min(one.sent for one in worst)
    for status, name in ((200, "answered"), (503, "refused")):
        shown = [one for one in worst if one.status == status]
        right.semilogy([o.sent - began for o in shown], [1000 * o.seconds for o in shown], ".", ms=2, label=name)
    right.set(xlabel="second", ylabel="milliseconds", title=f"{rounds[-1].times:g} times the peak")
    right.legend(markerscale=4)
    figure.savefig(picture, dpi=110)


def main() -> int:
    """The campaign as a command; 1 when something went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="+")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--plot", type=Path)
    chosen = parser.parse_args()
    pictures = [Path(name).read_bytes() for name in image_files(chosen.images)]
    with service() as (port, _):
        peak, rounds = asyncio.run(campaign(port, pictures, chosen.seconds))
    figures = account(peak, rounds)
    print(json.dumps(figures, indent=2))
    if chosen.plot is not None:
        plot(peak, rounds, chosen.plot)
    return int(bool(figures["wrong"]))


if __name__ == "__main__":
    sys.exit(main())
