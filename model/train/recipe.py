"""Training recipes: sizes and rates that are fixed before a run."""

from dataclasses import dataclass, field

from linewise.model.network.config import ModelConfig


@dataclass(frozen=True)
class Recipe:
    """Sizes and rates of a run.

    `batch_pixels` bounds the total width of a batch in pixels (64 images of width 128 = 8192). `replay` is the
    number of uses of a sample that is not learnt yet. `easy_until` is the number of samples over which drawn
    pictures grow to full difficulty. `warmup` counts steps to full rate; over the last `decay` share of the time
    the rate falls to 0. `ema` is the decay of the averaged weights, which are the ones kept.
    """

    name: str
    model: ModelConfig = field(default_factory=ModelConfig)
    rate: float = 1.5e-3
    weight_decay: float = 0.01
    clip: float = 5.0
    batch_pixels: int = 8192
    largest_batch: int = 96
    replay: int = 2
    easy_until: int = 50_000
    warmup: int = 200
    decay: float = 0.3
    ema: float = 0.9985
    workers: int = 1
    pool: int = 6000
    validate_every: float = 600.0
    validate_images: int = 200


FAST = ModelConfig(stem=16, channels=(16, 32, 64, 128), blocks=(1, 1, 2, 1), hidden=96, lstm_layers=1)

RECIPES = {
    "cpu": Recipe("cpu"),
    # From shipped weights on: a low rate that falls from the beginning on, and pictures of full difficulty.
    "finetune": Recipe("finetune", rate=4e-4, warmup=100, decay=1.0, ema=0.999, easy_until=0, replay=3),
    # The first network of a cascade, with the frames of the default one, whose posteriors it can learn.
    "fast": Recipe("fast", model=FAST, rate=2e-3, batch_pixels=8192, replay=2, decay=0.3),
    # One accelerator with many cores beside it: larger batches, so a higher rate and a shorter average.
    "gpu": Recipe(
        "gpu", rate=3e-3, batch_pixels=131_072, largest_batch=1024, replay=8, easy_until=150_000, warmup=500,
        ema=0.999, workers=14, pool=120_000, validate_every=120.0,
    ),
    # Twenty steps on a handful of samples, to see in a minute that everything is connected.
    "smoke": Recipe(
        "smoke", model=ModelConfig(stem=16, channels=(16, 16, 32, 32), blocks=(1, 1, 1, 1), hidden=32),
        batch_pixels=1024, largest_batch=8, replay=1000, warmup=5, pool=8, workers=0, ema=0.9, easy_until=10_000,
    ),
}  # fmt: skip
