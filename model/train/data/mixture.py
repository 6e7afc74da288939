"""The mixture of training samples: drawn pictures, real lines, and real lines spliced across a gap."""

from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np

from linewise.model.network.config import ModelConfig
from linewise.model.synth.renderer import Renderer, Sample
from linewise.model.synth.spacing import log_uniform
from linewise.model.train.data.line_augmentation import augmented, degraded, spliced
from linewise.model.train.data.real_lines import RealLines
from linewise.model.train.data.samples import TrainingSample, to_training_sample

REAL_SHARE = 0.3  # of all samples
REAL_KINDS = {"receipts": 16.0, "typed": 8.0, "print": 6.0}  # share of each kind of set among the real samples
SPLICE_SHARE = 0.08  # of the real samples
MAX_SPLICED_HEIGHTS = 40.0  # width of a spliced line over its height


class Mixture:
    """Training samples by number, a share of them real; `sample(i)` is the same whenever it is drawn again."""

    def __init__(
        self, config: ModelConfig, renderer: Renderer, real: RealLines | None = None, real_share: float = 0.0
    ) -> None:
        self.config = config
        self.renderer = renderer
        self.real = real
        self.real_share = real_share if real else 0.0

    def sample(self, index: int) -> TrainingSample | None:
        """Sample number `index`, or None where the network could not learn it."""
        random = Random(self.renderer.seed * 1_000_003 + index + 500_009)
        if self.real is None or random.random() >= self.real_share:
            drawn = self.renderer.sample(index)
            return to_training_sample(self.config, replace(drawn, image=degraded(random, drawn.image)))
        noise = np.random.default_rng((self.renderer.seed, index, 1))
        line = self.real.draw(random)
        image, text, kind = line.pixels(), line.text, line.set_name
        if random.random() < SPLICE_SHARE:
            mate = self.real.page_mate(random, line)
            other = mate.pixels()
            room = MAX_SPLICED_HEIGHTS - sum(i.shape[1] / i.shape[0] for i in (image, other))
            if room > 2:
                image = spliced(random, image, other, log_uniform(random, 2, min(20, room)))
                text, kind = f"{text} {mate.text}", f"{kind}_spliced"
        image = augmented(random, noise, image)
        return to_training_sample(self.config, Sample(image, text, kind), line.ignore_case)


def real_line_weights(folder: Path) -> dict[Path, float]:
    """Weights of the sets of a folder that training uses, by kind and the root of their number of lines.

    Handwriting and Fraktur are left out: the network does not read them.
    """
    import pyarrow.parquet as pq

    weights: dict[Path, float] = {}
    for kind, share in REAL_KINDS.items():
        lines = {path: pq.read_metadata(path).num_rows ** 0.5 for path in sorted(folder.glob(f"{kind}_*.parquet"))}
        weights |= {path: share * count / sum(lines.values()) for path, count in lines.items()}
    return weights
