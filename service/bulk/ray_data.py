"""Recognition of many images on Ray Data, with one reader per free replica slot of the cluster.

Rows arrive in the order of the images, and only the calling process writes them, so that an interrupted run resumes as
it does without Ray. Readers open image files under the same paths as the calling process.
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

from linewise.service.bulk.parquet import columns_of, entries_of, is_table, table_of
from linewise.service.bulk.sources import displayed
from linewise.service.bulk.writer import BATCH_SIZE_IMAGES, BulkError, Entry, Row, read_rows
from linewise.service.inference.loading import load_reader
from linewise.service.settings import Replicas, Settings

TASK_SIZE_IMAGES = 4 * BATCH_SIZE_IMAGES  # of files; all of them are read again after a reader crashes
BLOCK_SIZE_BYTES = 8 * 2**20  # of images from tables in one task
DATASET_SIZE_FILES = 500_000  # bounds Ray's memory for file names to some 50 MB

DecodingArguments = tuple[int, str | None, str, list[str] | None]  # of `LineReader.decoding`


@dataclass(frozen=True)
class ReaderSpec:
    """Parameters of a reader; relative paths of images start at ``folder``."""

    settings: Settings
    decoding: DecodingArguments
    folder: str
    threads: int


class ImageReader:
    """Ray actor that holds the model and reads tables of images.

    ``done`` is a list of one reference to the identifiers to skip, in Ray's object store.
    """

    def __init__(self, spec: ReaderSpec, done: list[ray.ObjectRef[frozenset[str]]]) -> None:
        # Set before the model is loaded: each thread reads on one core, whereas Ray sets all cores of the actor.
        os.environ["OMP_NUM_THREADS"] = "1"
        self._reader = load_reader(spec.settings.model_spec)
        self._decoding = self._reader.decoding(*spec.decoding)
        self._threads = spec.threads if str(self._reader.device) == "cpu" else 1
        self._spec, self._done = spec, ray.get(done[0])

    def __call__(self, images: pyarrow.Table) -> pyarrow.Table:
        """Read a table of images and return the table of their rows."""
        entries = [self._absolute(entry) for entry in entries_of(images) if entry.id not in self._done]
        limits = self._spec.settings.image_limits
        return table_of(list(read_rows(self._reader, entries, limits, self._decoding, self._threads)))

    def _absolute(self, entry: Entry) -> Entry:
        if not isinstance(entry.content, str):
            return entry
        return Entry(entry.id, os.path.join(self._spec.folder, entry.content))


@contextmanager
def open_ray_reader(
    settings: Settings, replicas: Replicas, decoding: DecodingArguments
) -> Iterator[Callable[[Iterable[str], set[str]], Iterator[Row]]]:
    """Connect to Ray; yields a function from sources and identifiers to skip to rows in order.

    Connects to the cluster that ``RAY_ADDRESS`` names or that runs on this machine; else starts one, which ends with
    the context.

    Raises:
        BulkError: Ray or a reader failed, also while rows are read.
    """
    secretless = settings.model_copy(update={"api_keys": (), "api_keys_file": None})
    if settings.weights is not None:
        secretless = secretless.model_copy(update={"weights": settings.weights.resolve()})
    spec = ReaderSpec(secretless, decoding, os.getcwd(), max(1, int(replicas.cpus)))
    try:
        with _ray_errors_as_bulk_errors():
            ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.WARNING)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False  # the command shows its own
        context.execution_options.preserve_order = True
        context.target_max_block_size = BLOCK_SIZE_BYTES
        context.raise_original_map_exception = True
        context.print_on_execution_start = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # the command prints the error in one line
        yield lambda sources, done: _read_rows(sources, spec, replicas, done)
    finally:
        ray.shutdown()


@contextmanager
def _ray_errors_as_bulk_errors() -> Iterator[None]:
    """Convert errors of Ray and of readers to ``BulkError`` with one line, without remote tracebacks."""
    try:
        yield
    except RayTaskError as error:
        cause = error.cause
        message = str(cause) if isinstance(cause, BulkError) else f"a reader failed: {type(cause).__name__}: {cause}"
        raise BulkError(message.partition("\n")[0]) from error
    except (RayError, ConnectionError) as error:
        raise BulkError(f"Ray: {str(error).partition(chr(10))[0]}") from error


def _read_rows(sources: Iterable[str], spec: ReaderSpec, replicas: Replicas, done: set[str]) -> Iterator[Row]:
    done_reference = ray.put(frozenset(done))
    for dataset in _datasets(sources, done):
        results = dataset.map_batches(
            ImageReader,
            fn_constructor_args=(spec, [done_reference]),  # Ray would resolve a reference that is not in a list
            compute=ray.data.ActorPoolStrategy(min_size=1),
            batch_size=BATCH_SIZE_IMAGES * spec.threads,
            batch_format="pyarrow",
            zero_copy_batch=True,
            num_cpus=replicas.cpus,
            num_gpus=replicas.gpus,
        )
        blocks = iter(results.iter_batches(batch_size=None, batch_format="pyarrow"))
        while True:
            with _ray_errors_as_bulk_errors():
                block = next(blocks, None)
            if block is None:
                break
            assert isinstance(block, pyarrow.Table)
            yield from (Row(**row) for row in block.to_pylist())


def _datasets(sources: Iterable[str], done: set[str]) -> Iterator[ray.data.Dataset]:
    """Group consecutive files, and consecutive tables with the same columns, into datasets."""
    for columns, group in groupby(sources, _columns):
        if columns is not None:
            paths = [os.path.abspath(source) for source in group]
            yield ray.data.read_parquet(paths, columns=list(columns), partitioning=None)
        else:
            files = (os.fsencode(source) for source in group if displayed(source) not in done)
            while dataset := list(islice(files, DATASET_SIZE_FILES)):
                tasks = (
                    dataset[first : first + TASK_SIZE_IMAGES] for first in range(0, len(dataset), TASK_SIZE_IMAGES)
                )
                yield ray.data.from_arrow([pyarrow.table({"path": task}) for task in tasks])


def _columns(source: str) -> dict[str, str] | None:
    """Return the input columns of a table, None for another file."""
    return columns_of(Path(source)) if is_table(source) else None
