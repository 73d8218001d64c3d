"""Spoil images in four fixed ways, to ask whether a model that was right stays right.

The ways and their strengths are severity 3 of CIFAR-10-C (Hendrycks, Dietterich 2019, "Benchmarking Neural
Network Robustness to Common Corruptions and Perturbations", appendix B, and its make_cifar_c.py). They were
chosen for 32 pixels: the blur is as wide in proportion on larger images, the others do not depend on size.
Values are rounded to the nearest grey level, where the benchmark cuts them off. Everything is a pure function
of the image and, for the noise, its number.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image

from kd_engine.data import Subset
from kd_engine.datasets import Part, Resident, chunks

NOISE = 0.08  # standard deviation, of values 0 to 1
BLUR = 0.7 / 32  # standard deviation of the Gaussian, as a share of the image's width: 0.7 of 32 pixels
CONTRAST = 0.4  # what is left of the distance to the image's mean colour
QUALITY = 58  # of JPEG, 0 to 95

SEED = 2019  # of the noise
CHUNK = 256  # images that are spoilt at once


def noise(images: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Gaussian noise, independent for every pixel and channel; for one image number always the same.

    Here and below: images (n, 3, S, S) uint8, numbers (n,) int; returns images.
    """
    lots = [np.random.default_rng((SEED, int(i))).standard_normal(images.shape[1:], "f4") for i in numbers]
    return _whole(images / np.float32(255) + NOISE * np.stack(lots))


def blur(images: np.ndarray, _numbers: np.ndarray) -> np.ndarray:
    """A Gaussian blur, cut at four standard deviations; beyond the border lies the border's colour."""
    sigma = BLUR * images.shape[-1]
    reach = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    blurred = images / np.float32(255)
    for axis in (2, 3):
        blurred = _filtered(blurred, (weights / weights.sum()).astype(np.float32), axis)
    return _whole(blurred)


def contrast(images: np.ndarray, _numbers: np.ndarray) -> np.ndarray:
    """Every colour nearer to the mean colour of its image."""
    values = images / np.float32(255)
    means = values.mean((2, 3), keepdims=True)
    return _whole((values - means) * np.float32(CONTRAST) + means)


def jpeg(images: np.ndarray, _numbers: np.ndarray) -> np.ndarray:
    """Compressed as JPEG, and read again."""
    return np.stack([_compressed(image) for image in images])


CORRUPTIONS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "noise": noise,
    "blur": blur,
    "contrast": contrast,
    "jpeg": jpeg,
}


class Corrupted:
    """A Part whose images are spoilt when asked for."""

    def __init__(self, part: Part, name: str) -> None:
        self._part = part
        self._name = name
        self.labels = part.labels
        self.size = part.size

    def __len__(self) -> int:
        return len(self._part)

    def images(self, indices: np.ndarray) -> np.ndarray:
        return CORRUPTIONS[self._name](self._part.images(indices), indices)

    def masks(self, indices: np.ndarray) -> np.ndarray | None:
        return self._part.masks(indices)

    def fingerprint(self) -> str:
        return f"{self._name} of {self._part.fingerprint()}"


def corrupted(subset: Subset, name: str) -> Subset:
    """The same samples, spoilt: in memory, once for all models, when their images are; else as they are
    read."""
    part = Corrupted(subset.part, name)
    if not (isinstance(subset.part, Resident) and subset.part.in_memory):
        return Subset(part, subset.indices)
    spoilt = [part.images(subset.indices[rows]) for rows in chunks(len(subset), CHUNK)]
    return Subset(Resident(np.concatenate(spoilt), subset.labels), np.arange(len(subset)))


def _filtered(values: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
    """The convolution of (n, C, S, S) with an odd number of symmetric weights along one axis."""
    reach, size = len(weights) // 2, values.shape[axis]
    padded = np.pad(values, [(reach, reach) if i == axis else (0, 0) for i in range(4)], mode="edge")
    total = np.zeros_like(values)
    for i, weight in enumerate(weights):
        total += weight * padded.take(range(i, i + size), axis)
    return total


def _compressed(image: np.ndarray) -> np.ndarray:
    buffer = BytesIO()
    Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(buffer, "JPEG", quality=QUALITY)
    with Image.open(buffer) as picture:
        return np.asarray(picture).transpose(2, 0, 1)


def _whole(values: np.ndarray) -> np.ndarray:
    """Values 0 to 1, and what lies beyond, as uint8."""
    levels: np.ndarray = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return levels
