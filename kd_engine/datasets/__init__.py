"""Datasets, one a file: each gives its training and test parts, once, as `Part`s.

What is done with them is kd_engine.data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from kd_engine.datasets._parts import Resident, chunks, room
from kd_engine.datasets._split import shuffled, stratified
from kd_engine.knobs import Knobs
from kd_engine.registry import Plugin

__all__ = [
    "HALF",
    "IMAGENET",
    "Base",
    "Dataset",
    "Loaded",
    "Part",
    "Progress",
    "Resident",
    "Triple",
    "chunks",
    "room",
    "shuffled",
    "stratified",
]

Triple = tuple[float, float, float]
IMAGENET: tuple[Triple, Triple] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean, std per channel
HALF: tuple[Triple, Triple] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

Progress = Callable[[str, float | None], None]  # (what is being done, fraction 0 to 1 or None)


class Part(Protocol):
    """Some samples: resident in memory, or read when asked for."""

    labels: np.ndarray  # (N,) int64
    size: int  # height and width of every image, pixels

    def __len__(self) -> int: ...

    def images(self, indices: np.ndarray) -> np.ndarray:
        """(n, 3, size, size) uint8, RGB, for the given sample indices. Several threads may ask at once."""
        ...

    def masks(self, indices: np.ndarray) -> np.ndarray | None:
        """(n, size, size) bool, true on the object, or None where that is not known."""
        ...

    def fingerprint(self) -> str:
        """Changes whenever an image, or the order of the images, changes."""
        ...


@dataclass(frozen=True)
class Loaded:
    """A dataset at hand. mean, std: per channel, for inputs in 0 to 1. notes: what the user should hear,
    e.g. how many corrupt files were skipped and which."""

    train: Part
    test: Part
    classes: tuple[str, ...]
    mean: Triple
    std: Triple
    notes: tuple[str, ...] = ()


class Dataset(Plugin):
    """Base of all datasets."""

    Knobs: ClassVar[type[Knobs]] = Knobs
    task: ClassVar[str] = "classification"
    offline: ClassVar[bool] = True  # False: downloaded on first use

    @classmethod
    def load(cls, knobs: Any, root: Path, progress: Progress, memory_mb: int) -> Loaded:
        """The dataset, from `root` (where downloads lie). Parts beyond `memory_mb` in all are streamed from
        disk. DataError when it cannot be had: which files are missing, and where to put them."""
        raise NotImplementedError(cls)

    @classmethod
    def facts(cls) -> dict[str, Any]:
        return {"offline": cls.offline, "task": cls.task}


Base = Dataset
