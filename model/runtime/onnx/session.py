"""Networks computed by onnxruntime, for CPUs."""

import os
import sys
from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

Array = NDArray[np.float32]


class OnnxNetwork:
    """A graph from `images` to `logits` computed by onnxruntime in float32.

    A picture's logits are the same to the bit alone and in any batch. Several threads may call it at once; the
    interpreter's lock is free during a call.
    """

    precision = "float32"

    def __init__(self, graph: onnx.ModelProto) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = _threads()
        options.inter_op_num_threads = 1
        # Waiting threads sleep: on cores that others use too, spinning takes their time and ours.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def logits(self, batches: Sequence[Array]) -> list[Array]:
        """Compute the logits of float32 batches `(B, C, H, W)`, each of its own size."""
        return [self._session.run(["logits"], {"images": images})[0] for images in batches]


def _threads() -> int:
    """Threads of one call: torch's if torch is loaded, since programs limit it there, else `OMP_NUM_THREADS`.

    0, the default, is one for each physical core.
    """
    if torch := sys.modules.get("torch"):
        return int(torch.get_num_threads())
    number = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(number) if number.isdecimal() else 0
