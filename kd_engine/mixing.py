"""Mix two images and their labels, mixup and cutmix, as a pure function of (sample, view, seed).

Who is mixed in, which view of it, how much and where are all drawn for (sample, view, seed). So a mixed view
is always the same image, and what a teacher said of it can be kept: nobody mixes kept answers. View 0 stays
the image itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from kd_engine.augment import MANY, Augmentation, lots, pasted
from kd_engine.tasks import UNLABELLED

MIXED = 7  # the end that its lots are drawn for; see kd_engine.augment
BITS = 7
STEPS = (
    2**BITS
)  # shares in mixup are whole multiples of 1 / STEPS: its sums are whole numbers, on every device
QUANTILES = 4096  # shares are drawn from so many


@dataclass(frozen=True)
class Blend:
    """What becomes of some views, all (n,). partners: sample numbers in the subset; views: of the partners;
    own: how much of each is the sample's own, 0 to 1. boxes: for cutmix, (4, n), what the partner covers."""

    partners: np.ndarray
    views: np.ndarray
    own: np.ndarray
    boxes: np.ndarray | None


class Mixing:
    """Who is mixed with whom in a subset.

    A sample that has its label is mixed with such samples only: a label of which the other half is withheld
    would be lost, and with ten labels a class hardly one would be left. The others are mixed with all.
    """

    def __init__(
        self, augmentation: Augmentation, names: np.ndarray, labelled: np.ndarray, size: int, seed: int
    ) -> None:
        """names: the numbers that name the samples; labelled: who has a label; both (N,). size: pixels."""
        self.augmentation = augmentation
        self._names, self._size, self._seed = names, size, seed
        self._labelled = labelled
        self._known = np.flatnonzero(labelled)
        # of each among those whom it may be mixed with
        self._place = np.where(labelled, np.cumsum(labelled) - 1, np.arange(len(names)))

    def blend(self, indices: np.ndarray, views: np.ndarray) -> Blend:
        """For sample numbers in the subset and their views, (n,)."""
        drawn = lots(MIXED, self._seed, self._names[indices], views, np.arange(5)[:, None])
        partners = self._partners(indices, drawn[0])
        seen = (drawn[1] % np.uint64(MANY)).astype(np.int64)
        quantile = (drawn[2] % np.uint64(QUANTILES)).astype(np.int64)
        own = np.where(views > 0, shares(self.augmentation.alpha)[quantile], 1.0)
        if self.augmentation.mix == "mixup":
            return Blend(partners, seen, np.rint(own * STEPS) / STEPS, None)
        middles = (drawn[3:] % np.uint64(self._size)).astype(np.int64)
        boxes, left = windows(own, middles, self._size)
        return Blend(partners, seen, left, boxes)

    def _partners(self, indices: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        """Another sample for each; itself where there is no other."""
        labelled = self._labelled[indices]
        many = np.where(labelled, len(self._known), len(self._names))
        further = 1 + (drawn % np.maximum(many - 1, 1).astype(np.uint64)).astype(np.int64)
        place = (self._place[indices] + further) % many
        return np.where(labelled, self._known[place * labelled] if len(self._known) else 0, place)


@lru_cache(maxsize=8)
def shares(alpha: float) -> np.ndarray:
    """Evenly spaced quantiles of Beta(alpha, alpha), (QUANTILES,), ascending."""
    from scipy.special import betaincinv  # only those who mix wait for its import

    quantiles: np.ndarray = betaincinv(alpha, alpha, (np.arange(QUANTILES) + 0.5) / QUANTILES)
    return quantiles


def windows(own: np.ndarray, middles: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (4, n) around pixels, rows and columns (2, n), that leave about `own` (n,) of an image, cut off
    at its edges; and the share that they do leave. Yun et al. 2019, "CutMix", algorithm 1."""
    half = (size * np.sqrt(1 - own)).astype(np.int64) // 2
    top, left = np.clip(middles - half, 0, size)
    bottom, right = np.clip(middles + half, 0, size)
    return np.stack([top, bottom, left, right]), 1 - (bottom - top) * (right - left) / size**2


def mixed(images: Tensor, others: Tensor, blend: Blend) -> Tensor:
    """The images with their partners in them, uint8. images, others: (n, C, S, S) uint8.

    mixup: Zhang, Cisse, Dauphin, Lopez-Paz 2018, "mixup", section 2; rounded, halves upwards.
    """
    if blend.boxes is not None:
        return pasted(images, others, blend.boxes)
    own = torch.from_numpy((blend.own * STEPS).astype(np.int16)).view(-1, 1, 1, 1)
    own = own.to(images.device, non_blocking=True)
    total = images.to(torch.int16).mul_(own)  # below 2 ** 15, since STEPS * 255 is
    total += others.to(torch.int16).mul_(STEPS - own)
    return total.add_(STEPS // 2).bitwise_right_shift_(BITS).to(torch.uint8)


def soft_targets(classes: np.ndarray, others: np.ndarray, own: np.ndarray, count: int) -> Tensor:
    """Rows (n, count) float32: `own` of the one class and the rest of the other. All 0, for unlabelled, where
    a label that would count is withheld. classes, others: (n,) int64, UNLABELLED where withheld."""
    known = ((classes != UNLABELLED) | (own == 0)) & ((others != UNLABELLED) | (own == 1))
    rows = np.zeros((len(own), count), np.float32)
    along = np.arange(len(own))[known]
    rows[along, classes[known]] += own[known]  # a class that does not count may be -1: the last, plus 0
    rows[along, others[known]] += 1 - own[known]
    return torch.from_numpy(rows)
