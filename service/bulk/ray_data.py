"""Many images to rows on Ray Data: as many readers as there is room for, on any number of machines.

The rows come back in the order of the images, and the one process that asked for them writes them: so a run that was
cut goes on as it does without Ray, no row is lost and none is there twice. Readers see the images' files under the same
paths as the command does.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

import pyarrow
import ray
import ray.data
from ray.exceptions import RayError, RayTaskError

from linewise.service.app import load_reader
from linewise.service.bulk.parquet import columns_of, entries_of, is_table, table_of
from linewise.service.bulk.writer import TOGETHER, BulkError, Entry, Row, rows
from linewise.service.settings import Replicas, Settings

TASK = 4 * TOGETHER  # files in one task: as many at most does a reader read again after a crash
BLOCK = 8 * 2**20  # bytes of images in one task, from a table
WINDOW = 500_000  # files whose names Ray is given at once: some 50 MB of its memory


@dataclass(frozen=True)
class ReaderSpec:
    """What a reader needs to know; ``decoding`` are the arguments of the recogniser's own ``decoding``."""

    settings: Settings
    decoding: tuple[int, str | None, str, list[str] | None]
    folder: str  # where relative paths begin
    threads: int


class ImageReader:
    """A process that holds the model and reads what it is sent, but for what is done: a set in Ray's store."""

    def __init__(self, wanted: ReaderSpec, done: list[ray.ObjectRef[frozenset[str]]]) -> None:
        # Before torch is imported: each thread of ours reads on one core, where Ray would give it all of them.
        os.environ["OMP_NUM_THREADS"] = "1"
        self._reader = load_reader(wanted.settings)
        self._decoding = self._reader.decoding(*wanted.decoding)
        self._threads = wanted.threads if str(self._reader.device) == "cpu" else 1
        self._wanted, self._done = wanted, ray.get(done[0])

    def __call__(self, images: pyarrow.Table) -> pyarrow.Table:
        found = [self._located(entry) for entry in entries_of(images) if entry.id not in self._done]
        limits = self._wanted.settings.image_limits
        return table_of(list(rows(self._reader, found, limits, self._decoding, self._threads)))

    def _located(self, entry: Entry) -> Entry:
        if not isinstance(entry.content, str):
            return entry
        return Entry(entry.id, os.path.join(self._wanted.folder, entry.content))


@contextmanager
def reading(
    settings: Settings, replicas: Replicas, decoding: tuple[int, str | None, str, list[str] | None]
) -> Iterator[Callable[[Iterable[str], set[str]], Iterator[Row]]]:
    """Ray, and what gives the rows of sources, in order, but for those that are done.

    Uses the cluster that ``RAY_ADDRESS`` names or that runs on this machine, else starts one here, which ends with it.
    Whatever Ray raises, here or in the rows, is a ``BulkError``.
    """
    secretless = settings.model_copy(update={"api_keys": (), "api_keys_file": None})
    if settings.weights is not None:
        secretless = secretless.model_copy(update={"weights": settings.weights.resolve()})
    wanted = ReaderSpec(secretless, decoding, os.getcwd(), max(1, int(replicas.cpus)))
    try:
        with _in_one_line():
            ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.WARNING)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False  # the command has one of its own
        context.execution_options.preserve_order = True
        context.target_max_block_size = BLOCK
        context.raise_original_map_exception = True
        context.print_on_execution_start = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # an error is told once, in one line
        yield lambda sources, done: _rows(sources, wanted, replicas, done)
    finally:
        ray.shutdown()


@contextmanager
def _in_one_line() -> Iterator[None]:
    """What Ray raises, or a reader on it, without the traces of the machines that it passed."""
    try:
        yield
    except RayTaskError as error:
        cause = error.cause
        told = str(cause) if isinstance(cause, BulkError) else f"a reader failed: {type(cause).__name__}: {cause}"
        raise BulkError(told.partition("\n")[0]) from error
    except (RayError, ConnectionError) as error:
        raise BulkError(f"Ray: {str(error).partition(chr(10))[0]}") from error


def _rows(sources: Iterable[str], wanted: ReaderSpec, replicas: Replicas, done: set[str]) -> Iterator[Row]:
    known = ray.put(frozenset(done))
    for dataset in _datasets(sources, done):
        read = dataset.map_batches(
            ImageReader,
            fn_constructor_args=(wanted, [known]),  # in a list Ray leaves it to the reader to get it
            compute=ray.data.ActorPoolStrategy(min_size=1),
            batch_size=TOGETHER * wanted.threads,
            batch_format="pyarrow",
            zero_copy_batch=True,
            num_cpus=replicas.cpus,
            num_gpus=replicas.gpus,
        )
        blocks = iter(read.iter_batches(batch_size=None, batch_format="pyarrow"))
        while True:
            with _in_one_line():
                block = next(blocks, None)
            if block is None:
                break
            assert isinstance(block, pyarrow.Table)
            yield from (Row(**row) for row in block.to_pylist())


def _datasets(sources: Iterable[str], done: set[str]) -> Iterator[ray.data.Dataset]:
    """The images of neighbouring files, and of neighbouring tables of one layout, as datasets."""
    for columns, neighbours in groupby(sources, _columns):
        if columns is not None:
            paths = [os.path.abspath(source) for source in neighbours]
            yield ray.data.read_parquet(paths, columns=list(columns), partitioning=None)
        else:
            left = (source for source in neighbours if source not in done)
            while window := list(islice(left, WINDOW)):
                tasks = (window[first : first + TASK] for first in range(0, len(window), TASK))
                yield ray.data.from_arrow([pyarrow.table({"path": task}) for task in tasks])


def _columns(source: str) -> dict[str, str] | None:
    return columns_of(Path(source)) if is_table(source) else None
