"""Placement of the network's frames along the input image."""

from linewise.model.network.config import FRAME_WIDTH_PX, ModelConfig
from linewise.model.recognition.preprocess import inner_width, scaled_width


class FramePlacement:
    """Maps frames of the logits to pixels along the width of an image of `height` x `width` pixels."""

    def __init__(self, config: ModelConfig, height: int, width: int) -> None:
        self._width = width
        self._inner = inner_width(config, height, width)
        self._left = (scaled_width(config, height, width) - self._inner) // 2  # border columns before the image

    def left_edge(self, frame: int) -> float:
        """Left edge of a frame in pixels, within [0, width]; the right edge of frame t is the left edge of t + 1."""
        share = (frame * FRAME_WIDTH_PX - self._left) / self._inner
        return self._width * min(max(share, 0.0), 1.0)
