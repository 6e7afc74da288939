"""Loss of the line detector: differentiable binarisation (Liao et al., AAAI 2020)."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from linewise.model.train.detection.db_targets import DbTargets

BINARISATION_STEEPNESS = 50.0  # k in the paper
NEGATIVES_PER_POSITIVE = 3
MIN_NEGATIVE_CELLS = 1024


def db_loss(logits: torch.Tensor, targets: Sequence[DbTargets]) -> torch.Tensor:
    """Sum of kernel cross-entropy, Dice loss and threshold error, a scalar.

    `logits` are float `(B, 2, h, w)`: kernel and threshold. The cross-entropy counts all kernel cells and the
    hardest cells outside; the Dice loss compares the binarised map; the threshold counts near line borders only.
    """

    def stacked(name: str) -> torch.Tensor:
        return torch.from_numpy(np.stack([getattr(t, name) for t in targets])).to(logits.device).float() / 255

    is_kernel, border, near, counts = (stacked(name) for name in ("kernel", "border", "near", "counts"))
    kernel, threshold = logits.float().unbind(1)
    cross_entropy = F.binary_cross_entropy_with_logits(kernel, is_kernel, reduction="none") * counts
    positive = (is_kernel > 0.5).float() * counts
    positives = int(positive.sum())
    negative = (cross_entropy * (1 - positive)).flatten()
    negatives = min(negative.numel(), max(NEGATIVES_PER_POSITIVE * positives, MIN_NEGATIVE_CELLS))
    hardest = negative.topk(negatives).values
    balanced = ((cross_entropy * positive).sum() + hardest.sum()) / (positives + len(hardest))
    limit = threshold.sigmoid()
    threshold_error = ((limit - border).abs() * near).sum() / near.sum().clamp_min(1)
    binary = torch.sigmoid(BINARISATION_STEEPNESS * (kernel.sigmoid() - limit)) * counts
    truth = is_kernel * counts
    dice = 1 - (2 * (binary * truth).sum() + 1) / (binary.sum() + truth.sum() + 1)
    return balanced + dice + threshold_error
