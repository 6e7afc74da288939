"""The recogniser in a process of its own, and its proxy in the service process.

A Python process runs one thread at a time. Next to an event loop with hundreds of requests per second, model threads
would wait for the interpreter lock after every operation. A crash in native code ends the worker process only. Pixels
and readings travel through pipes, so the service process holds no network.

Run as a program, this module is the worker: ``python -P -m linewise.service.inference.worker SPEC DESCRIPTOR...``. SPEC
is a JSON object with the arguments of ``model.load``; each DESCRIPTOR is the file descriptor of a pipe to serve.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from queue import LifoQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any

from linewise.model import ModelConfig, Pages, width_bucket
from linewise.service.inference.queue import Pixels
from linewise.service.inference.results import ModelLost

if TYPE_CHECKING:  # to start quickly, the worker imports little
    from linewise.model import Decoding, FoundLine, Reader, Reading
    from linewise.service.inference.loading import ModelSpec

EXIT_TIMEOUT_S = 5.0  # for the worker to end by itself

# Below the event loop, which needs little time, but at once: on few cores, refusals would wait for the model.
WORKER_NICENESS = 10

OOM_SCORE = "500"  # of -1000 to 1000


class CannotStart(Exception):
    """The model cannot be loaded; the message gives the reason."""


class ModelProcess:
    """A ``LineReader`` in a worker process, which ends with this one; ``pages`` is its ``PageFinder``.

    Thread-safe: each call waits for a free pipe. Calls raise ``ModelLost`` once the worker has ended.
    """

    model_id: str
    revision: str
    device: str

    def __init__(self, spec: ModelSpec, pipes: int) -> None:
        """Start the worker, which begins to load the model; call ``load`` before anything else."""
        pairs = [Pipe() for _ in range(pipes)]
        descriptors = [worker_end.fileno() for _, worker_end in pairs]
        arguments = {
            "path": str(spec.weights) if spec.weights else None,
            "device": spec.device,
            "precision": spec.precision,
        }
        # -P keeps the working directory off the module path: modules of others may lie there, such as numpy.py.
        program = [sys.executable, "-P", "-m", "linewise.service.inference.worker"]
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            [*program, json.dumps(arguments), *map(str, descriptors)],
            pass_fds=descriptors,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # without Ctrl+C, after which the service still finishes admitted requests
        )
        self._loaded = False
        self._pipes = [service_end for service_end, _ in pairs]
        self._free: LifoQueue[Connection[Any, Any]] = LifoQueue()
        for service_end, worker_end in pairs:
            worker_end.close()
            self._free.put(service_end)
        self._closing = False
        self.pages = Pages(self._detect)

    def load(self) -> None:
        """Wait until the model is loaded. Raises ``CannotStart``."""
        try:
            description = self._call("describe")
        except ModelLost:
            raise CannotStart(f"cannot load the model: {_how_it_ended(self._process.wait())}") from None
        except ValueError as error:
            raise CannotStart(str(error)) from None
        self.model_id = description["model_id"]
        self.revision = description["revision"]
        self.device = description["device"]
        self._config = ModelConfig.from_json(description["config"])
        self._loaded = True

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        return self._process.pid

    def read(self, images: Sequence[Pixels], decodings: Sequence[Decoding | None] | None = None) -> list[Reading]:
        """Call ``model.Reader.read`` in the worker."""
        readings: list[Reading] = self._call("read", list(images), None if decodings is None else list(decodings))
        return readings

    def decoding(
        self, alternatives: int, charset: str | None, charset_exclude: str, lexicon: Sequence[str] | None
    ) -> Decoding | None:
        """Call ``model.Reader.decoding`` in the worker; the result is opaque here and valid for ``read`` only."""
        decoding: Decoding | None = self._call("decoding", alternatives, charset, charset_exclude, lexicon)
        return decoding

    def width_bucket(self, height: int, width: int) -> int:
        """Compute ``model.Reader.width_bucket`` in this process."""
        return width_bucket(self._config, height, width)

    def warm_up(self) -> None:
        """Call ``model.Reader.warm_up`` in the worker."""
        self._call("warm_up")

    def on_lost(self, callback: Callable[[BaseException], None]) -> None:
        """Call ``callback`` with a ``ModelLost``, from another thread, if the worker ends before ``close``."""

        def watch() -> None:
            code = self._process.wait()
            if not self._closing:
                callback(ModelLost(_how_it_ended(code)))

        threading.Thread(target=watch, name="model-process", daemon=True).start()

    def close(self) -> None:
        """End the worker."""
        self._closing = True
        for pipe in self._pipes:
            pipe.close()
        if not self._loaded:  # the worker listens to no pipe yet
            self._process.kill()
        try:
            self._process.wait(EXIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> ModelProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _detect(self, grey_page: Pixels) -> list[FoundLine]:
        lines: list[FoundLine] = self._call("detect", grey_page)
        return lines

    def _call(self, method: str, *arguments: object) -> Any:
        pipe = self._free.get()
        try:
            pipe.send((method, arguments))
            error_kind, result = pipe.recv()
        except (EOFError, OSError) as error:
            raise ModelLost("the model process has ended") from error
        finally:
            self._free.put(pipe)
        if error_kind is not None:
            raise ERRORS[error_kind](result)
        return result


def _how_it_ended(code: int) -> str:
    """Describe the end of the worker by its exit code, as subprocess returns it."""
    reason = ", as the kernel ends a process that exceeds the memory limit" if code == -signal.SIGKILL else ""
    return f"the model process has ended with exit code {code}{reason}"


# Names of exceptions in the pipe: unpickling the exceptions themselves would import the packages that define them.
ERRORS: dict[str, type[Exception]] = {
    "lost": ModelLost,
    "memory": MemoryError,
    "value": ValueError,
    "other": RuntimeError,
}


def _error_kind(error: Exception) -> str:
    if type(error).__name__ == "AcceleratorError":  # torch's, for a device that is lost to this process
        return "lost"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's
        return "memory"
    return "value" if isinstance(error, ValueError) else "other"


class _Worker:
    """The methods that ``ModelProcess`` calls, served on one thread per pipe."""

    def __init__(self, reader: Reader) -> None:
        from linewise import model

        self._reader = reader
        self._pages = model.load_page_reader(reader=reader)

    def describe(self) -> dict[str, str]:
        reader = self._reader
        return {
            "model_id": reader.model_id,
            "revision": reader.revision,
            "device": str(reader.device),
            "config": reader.config.to_json(),
        }

    def warm_up(self) -> None:
        self._reader.warm_up()
        gc.freeze()  # permanent objects: scanning them in every garbage collection would delay batches
        gc.collect()

    def decoding(self, *options: Any) -> bytes | None:
        decoding = self._reader.decoding(*options)
        return None if decoding is None else pickle.dumps(decoding)  # the service does not unpickle it

    def read(self, images: list[Pixels], decodings: list[bytes | None] | None) -> list[Reading]:
        if decodings is None:
            return self._reader.read(images)
        unpickled = {data: pickle.loads(data) for data in set(decodings) if data is not None}  # noqa: S301 - our own
        return self._reader.read(images, [None if data is None else unpickled[data] for data in decodings])

    def detect(self, grey_page: Pixels) -> list[FoundLine]:
        return self._pages.detect(grey_page)

    def serve(self, pipe: Connection[Any, Any]) -> None:
        """Answer calls on a pipe until its other end is closed; then end this process."""
        while True:
            try:
                method, arguments = pipe.recv()
            except (EOFError, OSError):
                os._exit(0)  # without joining other threads: no caller is left
            answer: tuple[str | None, object]
            try:
                answer = None, getattr(self, method)(*arguments)
            except Exception as error:
                kind = _error_kind(error)
                answer = kind, f"{type(error).__name__}: {error}" if kind == "other" else str(error)
            with contextlib.suppress(OSError):
                pipe.send(answer)


def main(spec: str, *descriptors: str) -> int:
    """Load the model and serve the pipes."""
    # On these signals the service first finishes its admitted requests. It ends this process by closing the pipes.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.nice(WORKER_NICENESS)
    with contextlib.suppress(OSError):  # where memory runs out the kernel ends this process: the service then says so
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE, "ascii")
    pipes: list[Connection[Any, Any]] = [Connection(int(descriptor)) for descriptor in descriptors]
    from linewise import model

    try:
        worker = _Worker(model.load(**json.loads(spec)))
    except (model.CheckpointError, ValueError) as error:
        first_call: Any = wait(pipes)[0]
        first_call.recv()
        first_call.send(("value", str(error)))
        return 1
    threads = [threading.Thread(target=worker.serve, args=(pipe,)) for pipe in pipes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
