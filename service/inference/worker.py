"""The recogniser in a process of its own, and what stands for it beside the event loop.

Python runs one thread of a process at a time. Beside an event loop that answers hundreds of requests a second, the
threads of a recogniser wait for their turn after every operation; in a process of its own it waits for nobody, and
a crash in native code ends that process and not the answers to everyone. Pictures and readings go through pipes; who
stands on this side needs no torch.

Run as a program, this is the other side: ``python -m linewise.service.inference.worker SETTINGS DESCRIPTOR...``,
where SETTINGS is
JSON with the arguments of ``model.load`` and each DESCRIPTOR is a pipe to answer on.
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
from queue import LifoQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any

from linewise.model import ModelConfig, Pages, width_bucket
from linewise.service.inference.queue import ModelLost, Pixels

if TYPE_CHECKING:  # the other side has no use for settings, and starts the sooner
    from linewise.model import Decoding, FoundLine, Reader, Reading
    from linewise.service.settings import Settings

PATIENCE = 5.0  # seconds that the process may take to end by itself

# Below the event loop, which needs little, but at once: where the cores are few, refusals would wait for the model.
NICENESS = 10


class CannotStart(Exception):
    """The weights or the precision cannot be used; the message says why."""


class ModelProcess:
    """A ``LineReader`` whose work is done by another process, which ends with this one.

    ``pages`` is its ``PageFinder``. Any number of threads may call at once; each call that finds no free pipe waits
    for one. Where the process has ended, calls raise ``ModelLost``.
    """

    model_id: str
    revision: str
    device: str

    def __init__(self, settings: Settings, pipes: int) -> None:
        """Start the process, which begins to load the model; nothing else may be called before ``load``."""
        pairs = [Pipe() for _ in range(pipes)]
        theirs = [their.fileno() for _, their in pairs]
        chosen = {
            "path": str(settings.weights) if settings.weights else None,
            "device": settings.device,
            "precision": settings.precision,
        }
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "linewise.service.inference.worker", json.dumps(chosen), *map(str, theirs)],
            pass_fds=theirs,
            stdin=subprocess.DEVNULL,
        )
        self._pipes = [ours for ours, _ in pairs]
        self._free: LifoQueue[Connection[Any, Any]] = LifoQueue()
        for ours, their in pairs:
            their.close()
            self._free.put(ours)
        self._ending = False
        self.pages = Pages(self._detect)

    def load(self) -> None:
        """Wait until the model is loaded. Raises ``CannotStart``."""
        try:
            told = self._call("describe")
        except (ModelLost, ValueError) as error:
            raise CannotStart(str(error)) from None
        self.model_id, self.revision, self.device = told["model_id"], told["revision"], told["device"]
        self._config = ModelConfig.from_json(told["config"])

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def read(self, images: Sequence[Pixels], decodings: Sequence[Decoding | None] | None = None) -> list[Reading]:
        """As ``model.Reader.read``."""
        found: list[Reading] = self._call("read", list(images), None if decodings is None else list(decodings))
        return found

    def decoding(
        self, alternatives: int, charset: str | None, charset_exclude: str, lexicon: Sequence[str] | None
    ) -> Decoding | None:
        """As ``model.Reader.decoding``, but only good to be handed to ``read``."""
        found: Decoding | None = self._call("decoding", alternatives, charset, charset_exclude, lexicon)
        return found

    def width_bucket(self, height: int, width: int) -> int:
        """As ``model.Reader.width_bucket``."""
        return width_bucket(self._config, height, width)

    def warm_up(self) -> None:
        """As ``model.Reader.warm_up``."""
        self._call("warm_up")

    def when_lost(self, tell: Callable[[BaseException], None]) -> None:
        """Have ``tell`` called, from a thread of its own, when the process ends before it was told to."""

        def wait() -> None:
            code = self._process.wait()
            if not self._ending:
                tell(ModelLost(f"the process of the model has ended with exit code {code}"))

        threading.Thread(target=wait, name="model-process", daemon=True).start()

    def close(self) -> None:
        """End the process."""
        self._ending = True
        for pipe in self._pipes:
            pipe.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> ModelProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _detect(self, plain: Pixels) -> list[FoundLine]:
        found: list[FoundLine] = self._call("detect", plain)
        return found

    def _call(self, name: str, *arguments: object) -> Any:
        pipe = self._free.get()
        try:
            pipe.send((name, arguments))
            kind, answer = pipe.recv()
        except (EOFError, OSError) as error:
            raise ModelLost("the process of the model has ended") from error
        finally:
            self._free.put(pipe)
        if kind is not None:
            raise ERRORS[kind](answer)
        return answer


# By these names errors cross the pipe: their own classes would bring torch with them.
ERRORS: dict[str, type[Exception]] = {
    "lost": ModelLost,
    "memory": MemoryError,
    "value": ValueError,
    "other": RuntimeError,
}


def _kind(error: Exception) -> str:
    if type(error).__name__ == "AcceleratorError":  # torch's, for a device that is lost to this process
        return "lost"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's
        return "memory"
    return "value" if isinstance(error, ValueError) else "other"


class _Worker:
    """The other side: does what it is asked to, on as many threads as there are pipes."""

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
        gc.freeze()  # all this stays, and to look through it for garbage would stop every batch
        gc.collect()

    def decoding(self, *wanted: Any) -> bytes | None:
        found = self._reader.decoding(*wanted)
        return None if found is None else pickle.dumps(found)  # opaque on the other side, which has no torch

    def read(self, images: list[Pixels], decodings: list[bytes | None] | None) -> list[Reading]:
        if decodings is None:
            return self._reader.read(images)
        opened = {one: pickle.loads(one) for one in set(decodings) if one is not None}  # noqa: S301 - our own
        return self._reader.read(images, [None if one is None else opened[one] for one in decodings])

    def detect(self, plain: Pixels) -> list[FoundLine]:
        return self._pages.detect(plain)

    def serve(self, pipe: Connection[Any, Any]) -> None:
        """Answer on a pipe until nobody is at its other end any more; then this process ends."""
        while True:
            try:
                name, arguments = pipe.recv()
            except (EOFError, OSError):
                os._exit(0)  # whatever other threads are at, nobody waits for it
            answer: tuple[str | None, object]
            try:
                answer = None, getattr(self, name)(*arguments)
            except Exception as error:
                answer = _kind(error), f"{type(error).__name__}: {error}" if _kind(error) == "other" else str(error)
            with contextlib.suppress(OSError):
                pipe.send(answer)


def main(settings: str, *descriptors: str) -> int:
    """Load the model and serve the pipes."""
    # Told to end, the service first answers what it has taken in. It ends this process by closing its pipes.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.nice(NICENESS)
    pipes: list[Connection[Any, Any]] = [Connection(int(descriptor)) for descriptor in descriptors]
    from linewise import model

    try:
        worker = _Worker(model.load(**json.loads(settings)))
    except (model.CheckpointError, ValueError) as error:
        asked: Any = wait(pipes)[0]
        asked.recv()
        asked.send(("value", str(error)))
        return 1
    threads = [threading.Thread(target=worker.serve, args=(pipe,)) for pipe in pipes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
