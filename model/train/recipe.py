"""The recipes: everything about a training run that is chosen beforehand."""

from dataclasses import dataclass, field

from linewise.model.network.config import ModelConfig


@dataclass(frozen=True)
class Recipe:
    """Sizes and rates of a run.

    `batch_pixels` bounds a batch by its width in pixels in all (64 images of width 128 = 8192),
    `replay` is how often a drawn sample may be used while it is not read surely, `easy_until` the
    samples after which pictures are as hard as they get, `warmup` the steps to full rate; the last
    `decay` share of the minutes brings the rate down to nothing. `ema` is the averaging factor of
    the shipped weights.
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


RECIPES = {
    "cpu": Recipe("cpu"),
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
