"""Datasets in the idx format of MNIST: four files of grey images and labels, plain or gzipped."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from kd_engine.datasets import HALF, Dataset, Loaded, Progress, Resident, chunks, room
from kd_engine.datasets._fetch import Remote, fetch
from kd_engine.errors import DataError

SIZE = 32  # drawn into the middle of 32×32, as the literature does for models made for CIFAR
IMAGES, LABELS = 0x803, 0x801  # idx: unsigned bytes in three dimensions, in one
FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


class IdxDataset(Dataset):
    """Base of MNIST and its likes."""

    offline = False
    folders: ClassVar[tuple[str, ...]]  # below the root: ours, where downloads go, then torchvision's
    classes: ClassVar[tuple[str, ...]]
    mirrors: ClassVar[tuple[str, ...]]
    md5: ClassVar[tuple[str, str, str, str]]  # in the order of FILES

    @classmethod
    def load(cls, knobs: Any, root: Path, progress: Progress, memory_mb: int) -> Loaded:
        folder = cls._folder(root, progress)
        progress(f"reading {cls.name}", None)
        grey = [read_idx(_present(folder, name), IMAGES) for name in FILES[::2]]
        labels = [read_idx(_present(folder, name), LABELS) for name in FILES[1::2]]
        pixels = room((len(grey[0]) + len(grey[1]), 1, SIZE, SIZE), memory_mb)
        parts = np.split(pixels, [len(grey[0])])
        for part, images, answers in zip(parts, grey, labels, strict=True):
            _check(folder, images, answers, len(cls.classes))
            _pad(images, part)
        train, test = (Resident(part, answers) for part, answers in zip(parts, labels, strict=True))
        return Loaded(train, test, cls.classes, *HALF)

    @classmethod
    def _folder(cls, root: Path, progress: Progress) -> Path:
        for name in cls.folders:
            if all(_present(root / name, file).is_file() for file in FILES):
                return root / name
        remotes = [
            Remote(file, tuple(mirror + file for mirror in cls.mirrors), md5)
            for file, md5 in zip(FILES, cls.md5, strict=True)
        ]
        fetch(cls.name, remotes, root / cls.folders[0], progress)
        return root / cls.folders[0]


def read_idx(file: Path, magic: int) -> np.ndarray:
    """The array in an idx file, uint8. DataError when it is damaged or something else."""
    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{file} cannot be read: {error}.", "Delete it to have it downloaded again."
        ) from error
    header = np.frombuffer(data[: 4 + 4 * (magic & 0xFF)], ">u4")
    if (
        len(header) == 0
        or header[0] != magic
        or len(data) != header.nbytes + np.prod(header[1:].astype(np.int64))
    ):
        raise DataError(f"{file} is not a whole idx file.", "Delete it to have it downloaded again.")
    return np.frombuffer(data, np.uint8, offset=header.nbytes).reshape(header[1:].astype(int))


def _present(folder: Path, name: str) -> Path:
    """The file as downloaded, or unpacked."""
    plain = folder / name.removesuffix(".gz")
    return plain if plain.is_file() else folder / name


def _check(folder: Path, images: np.ndarray, labels: np.ndarray, classes: int) -> None:
    if len(images) != len(labels) or images.shape[1] != images.shape[2] or images.shape[1] > SIZE:
        raise DataError(f"{folder}: images {images.shape} and labels {labels.shape} do not belong together.")
    if len(labels) == 0 or labels.max() >= classes:
        raise DataError(f"{folder}: expected labels 0 to {classes - 1}, got {np.unique(labels).tolist()}.")


def _pad(images: np.ndarray, target: np.ndarray) -> None:
    side = images.shape[1]
    start = (SIZE - side) // 2
    for rows in chunks(len(images)):
        target[rows] = 0
        target[rows, 0, start : start + side, start : start + side] = images[rows]
