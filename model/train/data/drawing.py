"""Drawing ahead: a process that fills a folder with shards for training."""

import time
from collections.abc import Callable
from pathlib import Path

from linewise.model.train.data.mixture import Mixture
from linewise.model.train.data.samples import TrainingSample
from linewise.model.train.data.shards import SHARD_SAMPLES, shard_files, write_shard


def draw_shards(
    mixture: Mixture, folder: Path, stop: Callable[[], bool], *, shards: int | None = None, keep: int | None = None,
    on_shard: Callable[[Path, float], None] = lambda path, samples_per_s: None,
) -> None:  # fmt: skip
    """Write shards after the last one of `folder` until `stop()` or so many are written.

    Shard n holds sample numbers from n times `SHARD_SAMPLES` on, so that drawing goes on where it was cut.
    Beyond `keep` shards the oldest ones are deleted. `on_shard` receives each path and the samples drawn a second.

    Raises:
        OSError: a shard cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    number = max(shard_files(folder), default=-1) + 1
    while not stop() and (shards is None or written < shards):
        started = time.monotonic()
        samples: list[TrainingSample] = []
        for index in range(number * SHARD_SAMPLES, (number + 1) * SHARD_SAMPLES):
            if stop():
                return
            if (sample := mixture.sample(index)) is not None:
                samples.append(sample)
        path = folder / f"shard-{number:06}.npz"
        write_shard(path, samples)
        on_shard(path, len(samples) / (time.monotonic() - started))
        if keep is not None:
            for old in list(shard_files(folder).values())[:-keep]:
                for file in folder.glob(f"{old.stem}.*"):  # a teacher's posteriors lie beside the shard
                    file.unlink(missing_ok=True)
        number, written = number + 1, written + 1
