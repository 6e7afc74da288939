"""Shards: files of scaled training samples, drawn ahead of training."""

import json
import os
import random
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from linewise.model.train.data.samples import TrainingSample

SHARD_SAMPLES = 1024
NAME = re.compile(r"shard-(\d{6})\.npz$")

SampleHook = Callable[[Sequence[TrainingSample], Path], None]


def write_shard(path: Path, samples: Sequence[TrainingSample]) -> None:
    """Write samples to one compressed file, atomically.

    Raises:
        OSError: the file cannot be written.
    """
    # A second channel of zeros, as grey pictures have, is not stored.
    channels = [1 if not sample.image[..., 1:].any() else sample.image.shape[2] for sample in samples]
    pixels = [sample.image[..., :count].ravel() for sample, count in zip(samples, channels, strict=True)]
    about = [[*s.image.shape, c, s.text, s.kind, s.ignore_case] for s, c in zip(samples, channels, strict=True)]
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez_compressed(file, pixels=np.concatenate(pixels), about=np.array(json.dumps(about)))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def read_shard(path: Path) -> list[TrainingSample]:
    """Read the samples of a file that `write_shard` wrote.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is no shard.
    """
    try:
        with path.open("rb") as file, np.load(file) as shard:
            pixels, about = shard["pixels"], json.loads(str(shard["about"]))
    except (KeyError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{path} is not a shard of training samples: {error}") from error
    samples, start = [], 0
    for height, width, depth, channels, text, kind, ignore_case in about:
        size = height * width * channels
        image = pixels[start : start + size].reshape(height, width, channels)
        start += size
        if channels < depth:
            image = np.concatenate([image, np.zeros((height, width, depth - channels), np.uint8)], axis=2)
        samples.append(TrainingSample(image, text, kind, ignore_case))
    return samples


def shard_files(folder: Path) -> dict[int, Path]:
    """The shards of a folder by number, in order."""
    numbered = ((NAME.search(path.name), path) for path in folder.iterdir())
    return dict(sorted((int(match[1]), path) for match, path in numbered if match))


class ShardFolder:
    """Shards in the order of their reads: unread ones first, oldest first, then those read least.

    Drawing may add shards and delete old ones while training reads.
    """

    def __init__(
        self, folder: Path, seed: int = 0, reads: dict[int, int] | None = None, on_read: SampleHook | None = None
    ) -> None:
        """Open a folder. `on_read` receives the samples of each shard in their order on disk, and its path."""
        self.folder = folder
        self._on_read = on_read
        self.reads = dict(reads or {})
        self._random = random.Random(seed)

    def unread(self) -> int:
        """Number of shards that training has not read yet."""
        return sum(1 for number in shard_files(self.folder) if not self.reads.get(number))

    def next(self) -> list[TrainingSample]:
        """The samples of the next shard, shuffled.

        Raises:
            RuntimeError: the folder has no readable shard.
        """
        files = shard_files(self.folder)
        for number in sorted(files, key=lambda n: (self.reads.get(n, 0), n)):
            self.reads[number] = self.reads.get(number, 0) + 1
            try:
                samples = read_shard(files[number])
            except (OSError, ValueError):  # deleted or cut meanwhile
                continue
            if self._on_read is not None:
                self._on_read(samples, files[number])
            self._random.shuffle(samples)
            return samples
        raise RuntimeError(f"{self.folder} holds no readable shard: draw some with linewise draw")
