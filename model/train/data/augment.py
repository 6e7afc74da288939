"""Cheap changes to a batch, so that a replayed sample is never quite the one it was."""

import torch


def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Gain, bias, inversion, noise and one-pixel shifts for normalised images `(B, C, H, W)`.

    The values stay near mean 0 and spread 1. Each image draws its own changes.
    """
    count = images.shape[0]

    def uniform(low: float, high: float, channels: int = 1) -> torch.Tensor:
        shape = (count, channels, 1, 1)
        return torch.empty(shape, device=images.device).uniform_(low, high, generator=generator)

    images = images * uniform(0.8, 1.25) + uniform(-0.25, 0.25)
    images = torch.where(uniform(0, 1, images.shape[1]) < 0.1, -images, images)
    noise = torch.empty_like(images).normal_(generator=generator)
    images = images + noise * uniform(0, 1).pow(3) * 0.25
    rows, columns = (int(torch.randint(-1, 2, (), generator=generator, device=images.device)) for _ in range(2))
    return torch.roll(images, (rows, columns), (2, 3))
