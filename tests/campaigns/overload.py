"""Goodput and latency at the peak rate of the service, at twice and at five times that rate.

    python -m tests.campaigns.overload lines/ --seconds 20 --plot overload.png

Measures the peak throughput of a service with the shipped weights for 32 clients, then sends single pictures as a
Poisson process at multiples of that rate. Exits with 1 if a status is neither 200 nor 503, if a connection is lost, or
if an admitted request is answered after its deadline. The load generator shares the cores with the service, so that the
figures are lower bounds.
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
SETTLING_TIME_S = 2.0  # until the queue is full and the overload is stationary


@dataclass(frozen=True)
class Round:
    """Report of the load at ``times`` times the peak rate."""

    times: float
    report: Report

    @property
    def settled(self) -> Report:
        """Exchanges after the settling time."""
        start = min((exchange.sent for exchange in self.report.exchanges), default=0.0)
        late = [exchange for exchange in self.report.exchanges if exchange.sent - start > SETTLING_TIME_S]
        return Report(max(1e-9, self.report.seconds - SETTLING_TIME_S), late)


async def campaign(port: int, pictures: Sequence[bytes], seconds: float) -> tuple[float, list[Round]]:
    """Measure the peak in images per second and the rounds of overload."""
    url = f"http://127.0.0.1:{port}"
    await closed_loop(url, pictures, clients=CLIENTS, seconds=min(5.0, seconds))  # warm-up
    peak = (await closed_loop(url, pictures, clients=CLIENTS, seconds=seconds)).images_per_second
    rounds = []
    for times in TIMES:
        rounds.append(Round(times, await open_loop(url, pictures, rate=times * peak, seconds=seconds)))
        await asyncio.sleep(1.0)
    return peak, rounds


def summarize(peak: float, rounds: Sequence[Round]) -> dict[str, Any]:
    """Return the figures, in images per second and ms, and the faults."""
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
        if (late := sum(e.status == 200 and e.seconds > deadline + 1 for e in each.report.exchanges))
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
    """Plot goodput by offered rate, and the latency of each response in the last round by time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    offered = [each.times * peak for each in rounds]
    left.plot(offered, [each.report.images_per_second for each in rounds], marker="o", label="answered")
    left.axhline(peak, color="grey", linewidth=0.8, label="peak")
    left.set(xlabel="requests a second", ylabel="images a second", ylim=(0, None), title="goodput")
    left.legend()
    exchanges = rounds[-1].report.exchanges
    start = min(exchange.sent for exchange in exchanges)
    for status, name in ((200, "answered"), (503, "refused")):
        seconds = [exchange.sent - start for exchange in exchanges if exchange.status == status]
        latencies_ms = [1000 * exchange.seconds for exchange in exchanges if exchange.status == status]
        right.semilogy(seconds, latencies_ms, ".", ms=2, label=name)
    right.set(xlabel="second", ylabel="milliseconds", title=f"{rounds[-1].times:g} times the peak")
    right.legend(markerscale=4)
    figure.savefig(picture, dpi=110)


def main() -> int:
    """Run the campaign from the command line; returns 1 if it failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="+")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    pictures = [Path(name).read_bytes() for name in image_files(arguments.images)]
    with service() as (port, _):
        peak, rounds = asyncio.run(campaign(port, pictures, arguments.seconds))
    figures = summarize(peak, rounds)
    print(json.dumps(figures, indent=2))
    if arguments.plot is not None:
        plot(peak, rounds, arguments.plot)
    return int(bool(figures["wrong"]))


if __name__ == "__main__":
    sys.exit(main())
