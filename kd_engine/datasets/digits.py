"""Handwritten digits that come with scikit-learn, drawn to 32×32: no network needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kd_engine.datasets import HALF, Dataset, Loaded, Progress, Resident, stratified

SIZE = 32
TEST = 360  # of 1,797; the usual fifth
INK = 16  # the originals count the dark pixels of a 4×4 block: 0 to 16


class Digits(Dataset):
    name = "digits"
    title = "Handwritten digits"
    help = "1,797 small handwritten digits, bundled with scikit-learn: 1,437 to train on, 360 to test."
    source = "Alpaydin, Kaynak: Optical Recognition of Handwritten Digits, UCI, 1998 (its test part)"

    @classmethod
    def load(cls, knobs: Any, root: Path, progress: Progress, memory_mb: int) -> Loaded:
        from sklearn.datasets import load_digits  # most of a second, so only when wanted

        progress("drawing the digits", None)
        originals, labels = load_digits(return_X_y=True)
        pixels = np.stack([_drawn(original) for original in originals.reshape(-1, 8, 8)])[:, None]
        is_test = np.zeros(len(labels), bool)
        is_test[stratified(labels, TEST, 0)] = (
            True  # fixed: no seed of a recipe moves a sample into the test part
        )
        train = Resident(pixels[~is_test], labels[~is_test])
        test = Resident(pixels[is_test], labels[is_test])
        return Loaded(train, test, tuple("0123456789"), *HALF)


def _drawn(original: np.ndarray) -> np.ndarray:
    """8×8 counts as 32×32 grey levels, white on black."""
    grey = (original * (255 / INK)).round().astype(np.uint8)
    return np.asarray(Image.fromarray(grey).resize((SIZE, SIZE), Image.Resampling.BICUBIC))
