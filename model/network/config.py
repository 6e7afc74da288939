"""Everything that must be known beside the tensors to rebuild and feed a model."""

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any

from linewise.model.network.charset import DEFAULT_ALPHABET

# About +15 to +25 % from rung to rung, so that an image is widened by 9 % on average; every rung
# is a multiple of the 4 pixels that one column of logits covers, and of 8 for aligned kernels.
WIDTH_LADDER = (
    32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512,
    608, 704, 800, 928, 1056, 1216, 1408, 1632, 2048,
)  # fmt: skip


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the network and of its input; stored inside the checkpoint.

    `height` and `widths` are pixels of the scaled image, `input_channels` is 2 for one along the two
    axes of colour on which pictures vary most, 1 for a grey one; `channels` and `blocks` are per stage
    of the backbone, `hidden` is the width of one LSTM direction, `temperature` divides the logits
    before a confidence is taken from them (1 = uncalibrated). `stretch` is how much wider than tall
    images are scaled: a column of logits covers 4 pixels, and narrow letters need more columns.
    `ranges` are what the tensors between the convolutions span, for arithmetic in 8-bit integers;
    empty where nobody has measured them.
    """

    alphabet: str = DEFAULT_ALPHABET
    height: int = 32
    widths: tuple[int, ...] = WIDTH_LADDER
    input_channels: int = 2
    stem: int = 32
    channels: tuple[int, ...] = (32, 64, 96, 192)
    blocks: tuple[int, ...] = (1, 1, 2, 2)
    hidden: int = 192
    lstm_layers: int = 2
    temperature: float = 1.0
    stretch: float = 1.2
    ranges: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if self.height % 8:
            raise ValueError(f"height must be a multiple of 8, not {self.height}")
        if self.input_channels not in (1, 2):
            raise ValueError(f"input_channels must be 1 or 2, not {self.input_channels}")
        if len(self.channels) != 4 or len(self.blocks) != 4:
            raise ValueError("channels and blocks must name four stages")
        if list(self.widths) != sorted(set(self.widths)) or any(w % 4 for w in self.widths):
            raise ValueError("widths must rise and be multiples of 4")
        if self.temperature <= 0:
            raise ValueError(f"temperature must be positive, not {self.temperature}")
        if self.stretch <= 0:
            raise ValueError(f"stretch must be positive, not {self.stretch}")
        if not all(math.isfinite(low) and math.isfinite(high) and low <= 0 <= high and low < high
                   for low, high in self.ranges):  # fmt: skip
            raise ValueError("ranges must be finite, and hold 0 and more than that")

    def to_json(self) -> str:
        """The configuration as one line of JSON."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "ModelConfig":
        """The configuration that `to_json` wrote.

        Raises:
            ValueError: not JSON, an unknown field, or a value out of range.
        """
        fields: Any = json.loads(text)
        known = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(fields, dict) or fields.keys() - known:
            raise ValueError("the model configuration has fields that this version does not know")
        fields.setdefault("input_channels", 1)  # as in all checkpoints that do not say
        return cls(**{name: _tuples(value) for name, value in fields.items()})


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
