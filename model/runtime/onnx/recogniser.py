"""The CRNN as an ONNX graph.

Input `images`, float32 `(B, C, H, W)` with any batch size and width. Output `logits`, float32 `(B, W / 4, classes)`,
class 0 the blank.
"""

import numpy as np
import onnx

from linewise.model.network.checkpoint import NetworkWeights
from linewise.model.network.config import STRIDES, ModelConfig
from linewise.model.runtime.onnx.graph import Graph


def recogniser_graph(weights: NetworkWeights[ModelConfig]) -> onnx.ModelProto:
    """Build the graph of a `CRNN`."""
    config, graph = weights.config, Graph(weights.tensors)
    context = _lstm(graph, config, _vertical_pool(graph, _backbone(graph, config)))
    head = graph.constant(graph.weights["head.weight"].T, "head.weight")
    scores = graph.add("MatMul", [context, head], "head.product")
    scores = graph.add("Add", [scores, graph.constant(graph.weights["head.bias"], "head.bias")], "head.sum")
    graph.add("Transpose", [scores], "logits", perm=[1, 0, 2])
    images = ("batch", config.input_channels, config.height, "width")
    return graph.model(images, ("batch", "columns", len(config.alphabet) + 1), config.to_json())


def _backbone(graph: Graph, config: ModelConfig) -> str:
    """Add stem and residual blocks: `(B, C, H, W)` -> `(B, C', H / 16, W / 4)`."""
    x = graph.convolution("backbone.0", "images", (2, 2), "backbone.1")
    x = graph.add("Relu", [x], "stem")
    number = 3
    for blocks, stride in zip(config.blocks, STRIDES, strict=True):
        for block in range(blocks):
            x = graph.residual_block(f"backbone.{number}", x, stride if block == 0 else (1, 1))
            number += 1
    return x


def _vertical_pool(graph: Graph, x: str) -> str:
    """Add the sum over rows, weighted by a learned softmax: `(B, C, H, W)` -> `(W, B, C)`."""
    shares = graph.add("Softmax", [graph.convolution("pool.score", x)], "pool.softmax", axis=2)
    product = graph.add("Mul", [x, shares], "pool.product")
    rows = graph.constant(np.array([2], np.int64), "pool.axis")
    pooled = graph.add("ReduceSum", [product, rows], "pool.sum", keepdims=0)  # (B, C, W)
    return graph.add("Transpose", [pooled], "pool.out", perm=[2, 0, 1])


def _lstm(graph: Graph, config: ModelConfig, x: str) -> str:
    """Add the bidirectional LSTM: `(T, B, C)` -> `(T, B, 2 * hidden)`."""
    # torch orders the gates input, forget, cell, output, ONNX input, output, forget, cell.
    order = np.concatenate([np.arange(config.hidden) + config.hidden * gate for gate in (0, 3, 1, 2)])
    shape = graph.constant(np.array([0, 0, -1], np.int64), "lstm.shape")
    for layer in range(config.lstm_layers):
        both = [f"l{layer}", f"l{layer}_reverse"]
        stacked = {
            kind: np.stack([graph.weights[f"lstm.{kind}_{name}"][order] for name in both])
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
