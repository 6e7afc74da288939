"""Building of ONNX graphs from named tensors.

Batch normalisations are folded into the convolutions before them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 9
BATCH_NORM_EPSILON = 1e-5  # torch's default

Array = NDArray[np.float32]
Shape = Sequence[str | int]  # names stand for sizes that differ between calls


class Graph:
    """Nodes and constants of a graph under construction; `weights` are the floating-point tensors as float32."""

    def __init__(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        self.weights: dict[str, Array] = {
            name: np.asarray(tensor, np.float32) for name, tensor in tensors.items() if tensor.dtype.kind == "f"
        }
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def constant(self, value: NDArray[Any], name: str) -> str:
        """Add a constant tensor; returns its name."""
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node of an ONNX operator; returns the name of its output."""
        self._nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def convolution(
        self, conv: str, images: str, stride: tuple[int, int] = (1, 1), norm: str | None = None, output: str = ""
    ) -> str:
        """Add a convolution that keeps the size at stride 1, with the normalisation `norm` folded in."""
        kernel = self.weights[f"{conv}.weight"]
        if norm is None:
            bias = self.weights[f"{conv}.bias"]
        else:
            scale = self.weights[f"{norm}.weight"] / np.sqrt(self.weights[f"{norm}.running_var"] + BATCH_NORM_EPSILON)
            bias = self.weights[f"{norm}.bias"] - self.weights[f"{norm}.running_mean"] * scale
            kernel = kernel * scale[:, None, None, None]
        inputs = [images, self.constant(kernel, f"{conv}.weight"), self.constant(bias, f"{conv}.bias")]
        return self.add(
            "Conv",
            inputs,
            output or f"{conv}.out",
            kernel_shape=list(kernel.shape[2:]),
            pads=[kernel.shape[2] // 2] * 4,
            strides=list(stride),
        )

    def residual_block(self, name: str, x: str, stride: tuple[int, int]) -> str:
        """Add the `ResidualBlock` of that name."""
        y = self.convolution(f"{name}.conv1", x, stride, f"{name}.norm1")
        y = self.add("Relu", [y], f"{name}.relu1")
        y = self.convolution(f"{name}.conv2", y, norm=f"{name}.norm2")
        if f"{name}.shortcut.0.weight" in self.weights:
            x = self.convolution(f"{name}.shortcut.0", x, stride, f"{name}.shortcut.1")
        return self.add("Relu", [self.add("Add", [y, x], f"{name}.sum")], f"{name}.out")

    def model(self, images: Shape, logits: Shape, config: str) -> onnx.ModelProto:
        """Finish the graph from the input `images` to the output `logits`, with a configuration in the metadata."""
        model = helper.make_model(
            helper.make_graph(
                self._nodes,
                "linewise",
                [helper.make_tensor_value_info("images", TensorProto.FLOAT, images)],
                [helper.make_tensor_value_info("logits", TensorProto.FLOAT, logits)],
                self._constants,
            ),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="linewise",
        )
        helper.set_model_props(model, {"linewise.config": config})
        return model
