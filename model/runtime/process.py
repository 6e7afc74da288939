"""Objects that work only in the process that made them."""

import os
from typing import NoReturn


class ProcessBound:
    """Base of objects that hold networks: no copies, and no use in a forked process.

    A fork inherits the locks of torch's threads but not the threads, so the first operation there would hang.
    """

    def __init__(self) -> None:
        self._process_id = os.getpid()

    def _check_process(self) -> None:
        """Check that this is the process in which the object was made.

        Raises:
            RuntimeError: it is another one, which was forked.
        """
        if os.getpid() != self._process_id:
            raise RuntimeError(
                f"a {type(self).__name__} cannot be used in a forked process: load one in each process, "
                'after starting it, or start processes with multiprocessing.get_context("spawn")'
            )

    def __reduce__(self) -> NoReturn:
        """Refuse pickling and copying.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            f"a {type(self).__name__} cannot be pickled or copied: load one in each process; "
            "threads of one process may share it"
        )
