"""Make images look new: shifts and mirrors as a pure function of (sample, view, seed), a batch at once.

View 0 is the image itself; the others run through all shifts × mirrors, each once, in an order drawn for the
sample and the seed. So a view can be made again at any time, in any batch, and what a teacher said about it
can be kept.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kd_engine.datasets import shuffled

Augment = Literal["none", "flip", "crop", "crop-flip"]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def lots(*columns: np.ndarray | int) -> np.ndarray:
    """One random-looking number (uint64) for each row of the columns, which broadcast: the same for ever for
    the same row.

    Each column goes through the finalizer of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom
    number generators, 2014), which makes neighbouring numbers unrelated.
    """
    state = np.zeros(1, np.uint64)
    for column in columns:
        number = np.atleast_1d(column).astype(
            np.uint64
        )  # numpy warns when a scalar wraps around, not an array
        state = _mix(state + (number + np.uint64(1)) * GOLDEN)
    return state


def padding(size: int) -> int:
    """Pixels of black around an image before it is cropped: 4 for 32, as in the CIFAR literature, and in
    proportion."""
    return max(1, round(size / 8))


def distinct(augment: Augment, size: int) -> int:
    """How many different views such an augmentation can make: 162 for "crop-flip" at 32 pixels."""
    shifts = (2 * padding(size) + 1) ** 2 if "crop" in augment else 1
    return shifts * (2 if "flip" in augment else 1)


def moves(
    indices: np.ndarray, views: np.ndarray, seed: int, augment: Augment, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How each sample is moved in its view: rows and columns to drop from the padded image, and whether to
    mirror it.

    indices: numbers that name the samples, (n,). views: (n,), from 0. Returns (n,) int64, int64, bool.
    """
    pad, many = padding(size), distinct(augment, size)
    drawn = np.zeros(len(indices), np.int64)
    if many > 1:
        order = _order(many, seed)
        turn = (lots(seed, indices) % np.uint64(many - 1)).astype(np.int64)
        view = views % many
        drawn = np.where(view == 0, 0, order[(view - 1 + turn) % (many - 1)])
    mirror, shift = (drawn % 2 == 1, drawn // 2) if "flip" in augment else (drawn < 0, drawn)
    side = 2 * pad + 1 if "crop" in augment else 1
    rows, columns = divmod((shift + side * side // 2) % (side * side), side)  # shift 0 is the middle
    still = pad - side // 2  # the middle, when there is no crop
    return rows + still, columns + still, mirror


@lru_cache(maxsize=64)
def _order(many: int, seed: int) -> np.ndarray:
    """All but the unchanged image, shuffled. A sample starts in it at a place of its own."""
    return 1 + shuffled(many - 1, seed, many)


def augmented(images: Tensor, indices: np.ndarray, views: np.ndarray, seed: int, augment: Augment) -> Tensor:
    """The given views of some images. images: (N, C, S, S), of any type and on any device, before
    normalisation, so that 0 is black; indices: the numbers that name them. As RandomCrop(S, padding) and
    RandomHorizontalFlip, but repeatable."""
    if augment == "none" or not views.any():
        return images
    n, channels, size, _ = images.shape
    rows, columns, mirror = moves(indices, views, seed, augment, size)
    pad = padding(size)
    wide = size + 2 * pad
    along = np.arange(size)
    across = columns[:, None] + np.where(mirror[:, None], along[::-1], along)
    places = ((rows[:, None] + along)[:, :, None] * wide + across[:, None, :]).reshape(n, 1, size * size)
    where = torch.from_numpy(places).to(images.device, non_blocking=True).expand(-1, channels, -1)
    padded = F.pad(images, (pad, pad, pad, pad)).view(n, channels, wide * wide)
    return padded.gather(2, where).view(n, channels, size, size)


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = x ^ (x >> np.uint64(31))
    return mixed
