"""The line detector as an ONNX graph.

Input `images`, float32 `(B, 1, H, W)` with sides that are multiples of 32. Output `logits`, float32
`(B, 2, H / 4, W / 4)`: the kernel and the threshold.
"""

import numpy as np
import onnx

from linewise.model.network.checkpoint import NetworkWeights
from linewise.model.network.config import DetectorConfig
from linewise.model.runtime.onnx.graph import Graph


def detector_graph(weights: NetworkWeights[DetectorConfig]) -> onnx.ModelProto:
    """Build the graph of a `Detector`."""
    config, graph = weights.config, Graph(weights.tensors)
    x = graph.add("Relu", [graph.convolution("stem.0", "images", (2, 2), "stem.1")], "stem")
    features = []
    for stage, blocks in enumerate(config.blocks):
        for block in range(blocks):
            x = graph.residual_block(f"stages.{stage}.{block}", x, (1, 1) if block else (2, 2))
        features.append(graph.convolution(f"laterals.{stage}", x))
    doubled = graph.constant(np.array([1, 1, 2, 2], np.float32), "scales")
    top = features.pop()
    for stage, lateral in reversed(list(enumerate(features))):
        # Each cell four times: the nearest neighbour at twice the size.
        larger = graph.add(
            "Resize", [top, "", doubled], f"larger.{stage}",
            mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor",
        )  # fmt: skip
        top = graph.add("Add", [lateral, larger], f"top.{stage}")
    smooth = graph.add("Relu", [graph.convolution("smooth.0", top, norm="smooth.1")], "smooth")
    graph.convolution("head", smooth, output="logits")
    return graph.model(("batch", 1, "height", "width"), ("batch", 2, "rows", "columns"), config.to_json())
