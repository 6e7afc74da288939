"""Camera effects: the limit of sensor noise."""

from random import Random

import cv2
import numpy as np

from linewise.model.synth import camera


def test_noise_leaves_a_faint_picture_readable() -> None:
    faint = np.full((40, 200), 200, np.uint8)
    cv2.putText(faint, "FAINT", (10, 30), cv2.FONT_HERSHEY_SIMPLEX, 1, 180, 2)
    noisy = camera.add_noise(Random(1), np.random.default_rng(1), faint, 200.0)
    assert float((noisy.astype(float) - faint).std()) <= 0.6 * float(faint.std()) + 1
