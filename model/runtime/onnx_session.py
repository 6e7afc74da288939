"""The network computed by onnxruntime, for CPUs."""

from collections.abc import Sequence

import onnxruntime
import torch

from linewise.model.network.crnn import CRNN
from linewise.model.runtime.onnx_graph import build_graph


class OnnxNetwork:
    """A `CRNN` computed by onnxruntime in float32.

    A picture's logits are the same to the bit alone and in any batch. Several threads may call it at once; the
    interpreter's lock is free during a call.
    """

    def __init__(self, model: CRNN) -> None:
        """Build the graph of `model`, whose normalisations are not folded yet; the weights are copied."""
        tensors = {name: tensor.float().numpy() for name, tensor in model.state_dict().items()}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        # Waiting threads sleep: on cores that others use too, spinning takes their time and ours.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        graph = build_graph(model.config, tensors).SerializeToString()
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def logits(self, batches: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Compute float32 `(B, C, H, W)` each -> logits `(B, W / 4, classes)` each."""
        outputs = (self._session.run(None, {"images": images.contiguous().numpy()})[0] for images in batches)
        return [torch.from_numpy(logits) for logits in outputs]
