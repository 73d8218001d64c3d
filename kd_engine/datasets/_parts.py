"""Samples at hand: all pixels in one array, in memory or, past the budget, in a file."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator

import numpy as np

from kd_engine import paths

CHUNK = 1024  # images that are converted or hashed at once


class Resident:
    """A Part whose pixels are one uint8 array.

    pixels: (N, 3, S, S), or (N, 1, S, S) for grey, which saves two thirds and comes out as RGB all the same.
    object_masks: (N, S, S) bool, where known.
    """

    def __init__(
        self, pixels: np.ndarray, labels: np.ndarray, object_masks: np.ndarray | None = None
    ) -> None:
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1] not in (1, 3):
            raise ValueError(f"expected (N, 1 or 3, S, S) uint8, got {pixels.shape} {pixels.dtype}")
        if pixels.shape[2] != pixels.shape[3] or len(pixels) != len(labels):
            raise ValueError(
                f"expected square images, one a label, got {pixels.shape} and {len(labels)} labels"
            )
        self.pixels = pixels
        self.labels = labels.astype(np.int64)
        self.size = int(pixels.shape[-1])
        self.object_masks = object_masks

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def in_memory(self) -> bool:
        """False when the pixels lie in a file."""
        return not isinstance(self.pixels, np.memmap)

    def images(self, indices: np.ndarray) -> np.ndarray:
        chosen = np.asarray(self.pixels[indices])
        return chosen if chosen.shape[1] == 3 else np.repeat(chosen, 3, axis=1)

    def masks(self, indices: np.ndarray) -> np.ndarray | None:
        return None if self.object_masks is None else self.object_masks[indices]

    def fingerprint(self) -> str:
        digest = hashlib.blake2b(repr(self.pixels.shape).encode(), digest_size=16)
        for rows in chunks(len(self)):
            digest.update(np.ascontiguousarray(self.pixels[rows]).data)
        return digest.hexdigest()


def chunks(n: int, size: int = CHUNK) -> Iterator[slice]:
    """Slices that together cover 0 ... n-1."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def room(shape: tuple[int, ...], memory_mb: int) -> np.ndarray:
    """An uninitialised uint8 array, in memory when it fits the budget, else in an unnamed file that goes
    away with it."""
    if int(np.prod(shape)) <= memory_mb * 2**20:
        return np.empty(shape, np.uint8)
    folder = paths.cache()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:  # the mapping keeps the file alive
        return np.memmap(file, np.uint8, "w+", shape=shape)
