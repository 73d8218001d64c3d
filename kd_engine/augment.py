"""Make images look new: shifts, mirrors, erasing as a pure function of (sample, view, seed), a batch at once.

View 0 is the image itself; the others run through all shifts × mirrors, each once, in an order drawn for the
sample and the seed. So a view can be made again at any time, in any batch, and what a teacher said about it
can be kept. What is mixed of two images is in kd_engine.mixing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kd_engine.datasets import shuffled

Augment = Literal["none", "flip", "crop", "crop-flip"]
Mix = Literal["none", "mixup", "cutmix"]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
ERASED = 6  # lots for different ends must differ; kd_engine.data has the ends before it, mixing those after
MANY = 2**20  # views of a sample where lots are drawn for each of them: as many as anybody wants
AREA = (0.02, 0.4)  # share of an image that is erased
ASPECT = (0.3, 1 / 0.3)  # height over width of that


@dataclass(frozen=True)
class Augmentation:
    """What views are made of. moves: shifts and mirrors; erase: probability that a rectangle is painted over;
    mix: how another image is mixed in, in shares from Beta(alpha, alpha)."""

    moves: Augment = "none"
    erase: float = 0.0
    mix: Mix = "none"
    alpha: float = 1.0

    def distinct(self, size: int) -> int:
        """How many different views there are of an image of `size` pixels."""
        return MANY if self.erase or self.mix != "none" else distinct(self.moves, size)

    def key(self) -> tuple[object, ...]:
        """What tells it from all that show other views; empty without erasing and mixing."""
        erase = ("erase", self.erase) if self.erase else ()
        return (*erase, self.mix, self.alpha) if self.mix != "none" else erase


PLAIN = Augmentation()


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


def chances(*columns: np.ndarray | int) -> np.ndarray:
    """As `lots`, as numbers in [0, 1), float64."""
    drawn: np.ndarray = (lots(*columns) >> np.uint64(11)) * 2.0**-53
    return drawn


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


def erased(
    images: Tensor, indices: np.ndarray, views: np.ndarray, seed: int, share: float, fill: Tensor
) -> Tensor:
    """The images; each of the given views has lost a rectangle with probability `share`, but never view 0.

    images: (N, C, S, S) uint8; indices: the numbers that name them; fill: the colour instead, (C, 1, 1)
    uint8. Zhong, Zhong, Kang, Li, Yang 2020, "Random erasing data augmentation", with the mean colour
    (their RE-M): area and aspect are drawn from AREA and, evenly in its logarithm, ASPECT; what would be
    longer than the image is cut to it, where the paper draws again.
    """
    size = images.shape[-1]
    happens, spread, shape, *middles = chances(ERASED, seed, indices, views, np.arange(5)[:, None])
    erase = (happens < share) & (views > 0)
    low, high = np.log(ASPECT)
    area, aspect = AREA[0] + (AREA[1] - AREA[0]) * spread, np.exp(low + (high - low) * shape)
    edges = []
    for length, middle in zip((np.sqrt(area * aspect), np.sqrt(area / aspect)), middles, strict=True):
        long = np.clip(np.rint(size * length), 1, size).astype(np.int64)
        first = (middle * (size - long + 1)).astype(np.int64)
        edges += [first, np.where(erase, first + long, first)]
    return pasted(images, fill, np.stack(edges)) if erase.any() else images


def pasted(images: Tensor, others: Tensor, boxes: np.ndarray) -> Tensor:
    """The images (N, C, S, S) uint8, inside their boxes the others. boxes: first row, row after the last,
    first column, column after the last, (4, N)."""
    along = torch.arange(images.shape[-1], device=images.device)
    top, bottom, left, right = torch.from_numpy(boxes).to(images.device, non_blocking=True).unsqueeze(-1)
    rows, columns = (along >= top) & (along < bottom), (along >= left) & (along < right)
    inside = rows.to(torch.uint8).neg_().unsqueeze(2) & columns.to(torch.uint8).neg_().unsqueeze(1)
    # bits exchanged where the mask is 255: faster than torch.where
    return (images ^ others).bitwise_and_(inside.unsqueeze(1)).bitwise_xor_(images)


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = x ^ (x >> np.uint64(31))
    return mixed
