"""The CRNN as an ONNX graph, built from the tensors of a checkpoint without torch.

Batch normalisations are folded into the convolutions before them. Input `images`, float32 `(B, C, H, W)` with any batch
size and width. Output `logits`, float32 `(B, W / 4, classes)`, class 0 the blank.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from linewise.model.network.config import ModelConfig
from linewise.model.network.crnn import STRIDES

OPSET = 17
IR_VERSION = 9
BATCH_NORM_EPSILON = 1e-5  # torch's default

Array = NDArray[np.float32]


class _Graph:
    """Nodes and constants of a graph under construction."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: NDArray[Any], name: str) -> str:
        """Add a constant tensor; returns its name."""
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node of an ONNX operator; returns the name of its output."""
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output


def build_graph(config: ModelConfig, tensors: Mapping[str, Array]) -> onnx.ModelProto:
    """Build the graph of a network, with its configuration in the metadata.

    `tensors` are those of `CRNN.state_dict`, as float arrays.
    """
    weights = {name: np.asarray(tensor, np.float32) for name, tensor in tensors.items() if tensor.dtype.kind == "f"}
    graph = _Graph()
    columns = _backbone(graph, config, weights)
    sequence = _vertical_pool(graph, weights, columns)
    context = _lstm(graph, config, weights, sequence)
    head = graph.constant(weights["head.weight"].T, "head.weight")
    scores = graph.add("MatMul", [context, head], "head.product")
    scores = graph.add("Add", [scores, graph.constant(weights["head.bias"], "head.bias")], "head.sum")
    graph.add("Transpose", [scores], "logits", perm=[1, 0, 2])
    classes = len(config.alphabet) + 1
    shape: list[str | int] = ["batch", config.input_channels, config.height, "width"]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "linewise",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "columns", classes])],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="linewise",
    )
    helper.set_model_props(model, {"linewise.config": config.to_json()})
    return model


def _convolution(
    graph: _Graph, weights: Mapping[str, Array], conv: str, norm: str, images: str, stride: tuple[int, int]
) -> str:
    """Add a convolution with its normalisation folded in."""
    kernel = weights[f"{conv}.weight"]
    scale = weights[f"{norm}.weight"] / np.sqrt(weights[f"{norm}.running_var"] + BATCH_NORM_EPSILON)
    bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
    pad = kernel.shape[2] // 2
    return graph.add(
        "Conv",
        [
            images,
            graph.constant(kernel * scale[:, None, None, None], f"{conv}.weight"),
            graph.constant(bias, f"{conv}.bias"),
        ],
        f"{conv}.out",
        kernel_shape=list(kernel.shape[2:]),
        pads=[pad] * 4,
        strides=list(stride),
    )


def _backbone(graph: _Graph, config: ModelConfig, weights: Mapping[str, Array]) -> str:
    """Add stem and residual blocks: `(B, C, H, W)` -> `(B, C', H / 16, W / 4)`."""
    x = _convolution(graph, weights, "backbone.0", "backbone.1", "images", (2, 2))
    x = graph.add("Relu", [x], "stem")
    number = 3
    for blocks, stride in zip(config.blocks, STRIDES, strict=True):
        for block in range(blocks):
            x = _residual_block(graph, weights, f"backbone.{number}", x, stride if block == 0 else (1, 1))
            number += 1
    return x


def _residual_block(graph: _Graph, weights: Mapping[str, Array], name: str, x: str, stride: tuple[int, int]) -> str:
    y = _convolution(graph, weights, f"{name}.conv1", f"{name}.norm1", x, stride)
    y = graph.add("Relu", [y], f"{name}.relu1")
    y = _convolution(graph, weights, f"{name}.conv2", f"{name}.norm2", y, (1, 1))
    if f"{name}.shortcut.0.weight" in weights:
        x = _convolution(graph, weights, f"{name}.shortcut.0", f"{name}.shortcut.1", x, stride)
    return graph.add("Relu", [graph.add("Add", [y, x], f"{name}.sum")], f"{name}.out")


def _vertical_pool(graph: _Graph, weights: Mapping[str, Array], x: str) -> str:
    """Add the sum over rows, weighted by a learned softmax: `(B, C, H, W)` -> `(W, B, C)`."""
    score = graph.add(
        "Conv",
        [
            x,
            graph.constant(weights["pool.score.weight"], "pool.score.weight"),
            graph.constant(weights["pool.score.bias"], "pool.score.bias"),
        ],
        "pool.score",
    )
    shares = graph.add("Softmax", [score], "pool.softmax", axis=2)
    product = graph.add("Mul", [x, shares], "pool.product")
    rows = graph.constant(np.array([2], np.int64), "pool.axis")
    pooled = graph.add("ReduceSum", [product, rows], "pool.sum", keepdims=0)  # (B, C, W)
    return graph.add("Transpose", [pooled], "pool.out", perm=[2, 0, 1])


def _lstm(graph: _Graph, config: ModelConfig, weights: Mapping[str, Array], x: str) -> str:
    """Add the bidirectional LSTM: `(T, B, C)` -> `(T, B, 2 * hidden)`."""
    # torch orders the gates input, forget, cell, output, ONNX input, output, forget, cell.
    order = np.concatenate([np.arange(config.hidden) + config.hidden * gate for gate in (0, 3, 1, 2)])
    shape = graph.constant(np.array([0, 0, -1], np.int64), "lstm.shape")
    for layer in range(config.lstm_layers):
        both = [f"l{layer}", f"l{layer}_reverse"]
        stacked = {
            kind: np.stack([weights[f"lstm.{kind}_{name}"][order] for name in both])
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        }
        inputs = [
            x,
            graph.constant(stacked["weight_ih"], f"lstm.{layer}.input"),
            graph.constant(stacked["weight_hh"], f"lstm.{layer}.recurrent"),
            graph.constant(np.concatenate([stacked["bias_ih"], stacked["bias_hh"]], axis=1), f"lstm.{layer}.bias"),
        ]
        y = graph.add("LSTM", inputs, f"lstm.{layer}", direction="bidirectional", hidden_size=config.hidden)
        y = graph.add("Transpose", [y], f"lstm.{layer}.steps", perm=[0, 2, 1, 3])  # (T, B, 2, hidden)
        x = graph.add("Reshape", [y, shape], f"lstm.{layer}.out")
    return x
