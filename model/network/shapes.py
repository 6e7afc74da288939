"""Shapes of the networks' tensors, by name in the checkpoint: tells without torch whether a checkpoint is whole."""

from collections.abc import Iterator

from linewise.model.network.config import STRIDES, DetectorConfig, ModelConfig

Shapes = dict[str, tuple[int, ...]]


def crnn_shapes(config: ModelConfig) -> Shapes:
    """Shapes of the tensors of a `CRNN`."""
    shapes = dict(_convolution("backbone.0", "backbone.1", config.input_channels, config.stem, 3))
    width, number = config.stem, 3
    for channels, blocks, stride in zip(config.channels, config.blocks, STRIDES, strict=True):
        for block in range(blocks):
            shapes.update(_residual_block(f"backbone.{number}", width, channels, stride if block == 0 else (1, 1)))
            width, number = channels, number + 1
    shapes |= {"pool.score.weight": (1, width, 1, 1), "pool.score.bias": (1,)}
    gates = 4 * config.hidden
    for layer in range(config.lstm_layers):
        inputs = 2 * config.hidden if layer else width
        for direction in ("", "_reverse"):
            name = f"l{layer}{direction}"
            shapes |= {f"lstm.weight_ih_{name}": (gates, inputs), f"lstm.weight_hh_{name}": (gates, config.hidden)}
            shapes |= {f"lstm.bias_ih_{name}": (gates,), f"lstm.bias_hh_{name}": (gates,)}
    classes = len(config.alphabet) + 1
    return shapes | {"head.weight": (classes, 2 * config.hidden), "head.bias": (classes,)}


def detector_shapes(config: DetectorConfig) -> Shapes:
    """Shapes of the tensors of a `Detector`."""
    shapes = dict(_convolution("stem.0", "stem.1", 1, config.stem, 3))
    width = config.stem
    for stage, (channels, blocks) in enumerate(zip(config.channels, config.blocks, strict=True)):
        for block in range(blocks):
            shapes.update(_residual_block(f"stages.{stage}.{block}", width, channels, (1, 1) if block else (2, 2)))
            width = channels
        shapes |= {f"laterals.{stage}.weight": (config.neck, channels, 1, 1), f"laterals.{stage}.bias": (config.neck,)}
    shapes.update(_convolution("smooth.0", "smooth.1", config.neck, config.neck, 3))
    return shapes | {"head.weight": (2, config.neck, 3, 3), "head.bias": (2,)}


def _convolution(conv: str, norm: str, inputs: int, outputs: int, size: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """A convolution without bias and its normalisation."""
    yield f"{conv}.weight", (outputs, inputs, size, size)
    for name in ("weight", "bias", "running_mean", "running_var"):
        yield f"{norm}.{name}", (outputs,)
    yield f"{norm}.num_batches_tracked", ()


def _residual_block(
    name: str, inputs: int, outputs: int, stride: tuple[int, int]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from _convolution(f"{name}.conv1", f"{name}.norm1", inputs, outputs, 3)
    yield from _convolution(f"{name}.conv2", f"{name}.norm2", outputs, outputs, 3)
    if inputs != outputs or stride != (1, 1):
        yield from _convolution(f"{name}.shortcut.0", f"{name}.shortcut.1", inputs, outputs, 1)
