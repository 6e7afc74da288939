"""Configurations of the networks: everything beside the tensors that rebuilding one needs."""

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any

from linewise.model.network.charset import DEFAULT_ALPHABET

# Vertical and horizontal stride of the four stages of a recogniser, after a stem of stride 2: 32 rows become 2, and one
# frame of logits covers 4 columns, fine enough for the narrowest letters at height 32.
STRIDES = ((1, 1), (2, 2), (2, 1), (2, 1))
FRAME_WIDTH_PX = 4

# Steps of about 15 to 25 %, which widen an image by 9 % on average. Every width is a multiple of
# the 4 pixels of one frame of logits, and of 8 for aligned kernels.
WIDTH_LADDER = (
    32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512,
    608, 704, 800, 928, 1056, 1216, 1408, 1632, 2048,
)  # fmt: skip


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the network and of its input, stored in the checkpoint.

    `height` and `widths` are pixels of the scaled image. `input_channels` is the number of principal
    components of the image's colours, 1 or 2. `channels` and `blocks` are per stage
    of the backbone, `hidden` is the size of one LSTM direction. `temperature` divides the logits
    before the softmax (1 = uncalibrated). `stretch` is the horizontal scale relative to the
    vertical one: a frame of logits covers 4 pixels, and narrow letters need more frames.
    `accept_confidence` and `base_revision` are for the fast network of a cascade: the confidence from which its
    answer counts, and the revision of the base network that it was calibrated with.
    `ranges` are the value ranges of the activations for 8-bit convolutions, empty where they are not measured.

    Raises:
        ValueError: a field is out of range.
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
    accept_confidence: float = 1.0
    base_revision: str = ""

    def __post_init__(self) -> None:
        if self.height % 8:
            raise ValueError(f"height must be a multiple of 8, not {self.height}")
        if self.input_channels not in (1, 2):
            raise ValueError(f"input_channels must be 1 or 2, not {self.input_channels}")
        if len(self.channels) != 4 or len(self.blocks) != 4:
            raise ValueError("channels and blocks must have four stages each")
        if list(self.widths) != sorted(set(self.widths)) or any(w % 4 for w in self.widths):
            raise ValueError("widths must ascend and be multiples of 4")
        if self.temperature <= 0:
            raise ValueError(f"temperature must be positive, not {self.temperature}")
        if self.stretch <= 0:
            raise ValueError(f"stretch must be positive, not {self.stretch}")
        if not 0 <= self.accept_confidence <= 1:
            raise ValueError(f"accept_confidence must be from 0 to 1, not {self.accept_confidence}")
        if not all(math.isfinite(low) and math.isfinite(high) and low <= 0 <= high and low < high
                   for low, high in self.ranges):  # fmt: skip
            raise ValueError("ranges must be finite, contain 0 and have different ends")

    def to_json(self) -> str:
        """The configuration as one line of JSON."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "ModelConfig":
        """Parse a configuration that `to_json` wrote.

        Raises:
            ValueError: not JSON, an unknown field, or a value out of range.
        """
        fields: Any = json.loads(text)
        known = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(fields, dict) or fields.keys() - known:
            raise ValueError("the model configuration has fields that this version does not know")
        fields.setdefault("input_channels", 1)  # checkpoints without the field are grey
        return cls(**{name: _tuples(value) for name, value in fields.items()})


@dataclass(frozen=True)
class DetectorConfig:
    """Shape of the line detector.

    `channels` and `blocks` are those of the four stages, at strides 4, 8, 16 and 32. `stem` and `neck` are
    the channels before the stages and of the feature pyramid.
    """

    stem: int = 16
    channels: tuple[int, ...] = (24, 48, 96, 128)
    blocks: tuple[int, ...] = (1, 2, 2, 2)
    neck: int = 32

    def __post_init__(self) -> None:
        if len(self.channels) != 4 or len(self.blocks) != 4:
            raise ValueError("channels and blocks must each have four entries, one for each stage")

    def to_json(self) -> str:
        """Serialise the configuration to one line of JSON."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "DetectorConfig":
        """Parse a configuration written by `to_json`.

        Raises:
            ValueError: not JSON, or not the fields of a detector's configuration.
        """
        fields: Any = json.loads(text)
        if not isinstance(fields, dict) or fields.keys() != {field.name for field in dataclasses.fields(cls)}:
            raise ValueError("the configuration is not that of a line detector")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        return cls(**values)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
