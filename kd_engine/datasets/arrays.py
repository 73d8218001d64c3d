"""Your own arrays: an .npz with images and labels, in any of the layouts in common use."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from kd_engine.datasets import HALF, IMAGENET, Dataset, Loaded, Progress, Resident, chunks, room, stratified
from kd_engine.errors import DataError
from kd_engine.knobs import Knobs, knob

IMAGE_NAMES, LABEL_NAMES = ("images", "x", "data"), ("labels", "y", "targets")
TEST_NAMES = ("test", "val", "valid", "validation")  # the first one present is the test part
WANTED = (
    "Expected images and labels, or train_images, train_labels, test_images, test_labels (or x_train, ...)."
)


class ArrayKnobs(Knobs):
    path: str = knob(
        ..., "An .npz file with images and labels, or train_images, test_images and so on.", label="File"
    )
    size: int | None = knob(
        None, "Height and width to bring the images to. Null: theirs.", low=8, high=512, unit="px"
    )
    test_share: float = knob(
        0.2, "Share set aside for testing, where there is no test part.", low=0.05, high=0.5
    )
    split_seed: int = knob(0, "Chooses the images set aside for testing.", low=0, advanced=True)


class Arrays(Dataset):
    name = "arrays"
    title = "Arrays (.npz)"
    help = "Images and labels from a numpy file: grey or RGB, whole numbers to 255 or fractions of 1."
    Knobs = ArrayKnobs

    @classmethod
    def load(cls, knobs: ArrayKnobs, root: Path, progress: Progress, memory_mb: int) -> Loaded:
        file = Path(knobs.path).expanduser()
        progress(f"reading {file.name}", None)
        arrays = _read(file)
        pairs, unused = _pairs(arrays, file)
        images = [_channels_first(image, name, file) for (name, image), _ in pairs]
        labels = [
            _labels(label, name, len(image), file)
            for image, (_, (name, label)) in zip(images, pairs, strict=True)
        ]
        classes, labels = _classes(arrays, labels, file)
        if len({image.shape[1] for image in images}) > 1:
            raise DataError(
                f"{file}: grey and colour images are mixed: {', '.join(name for (name, _), _ in pairs)}."
            )
        notes = [
            f"{name} is not used: the validation part is taken from the training part." for name in unused
        ]
        size = knobs.size or _size(images, notes)
        pixels = room((sum(map(len, images)), images[0].shape[1], size, size), memory_mb)
        start = 0
        for ((name, _), _), image in zip(pairs, images, strict=True):
            _fill(pixels[start : start + len(image)], image, name, file)
            start += len(image)
        answers = np.concatenate(labels)
        if len(pairs) == 2:
            groups: list[np.ndarray | slice] = [np.s_[: len(images[0])], np.s_[len(images[0]) :]]
        else:
            groups = _split(answers, knobs, notes)
        train, test = (Resident(pixels[group], answers[group]) for group in groups)
        mean, std = IMAGENET if pixels.shape[1] == 3 else HALF
        return Loaded(train, test, classes, mean, std, tuple(notes))


Named = tuple[str, np.ndarray]


def _read(file: Path) -> dict[str, np.ndarray]:
    if not file.is_file():
        raise DataError(f"there is no file {file}.", "Check data.path.")
    try:
        with file.open("rb") as stream:  # opened here: numpy leaves a file open that it cannot read
            archive = np.load(stream, allow_pickle=False)  # a pickle inside would run code
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataError(f"{file} is a single array.", f"Use np.savez. {WANTED}")
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{file} cannot be read: {error}", "It has to be an .npz of plain arrays.") from error


def _pairs(arrays: Mapping[str, np.ndarray], file: Path) -> tuple[list[tuple[Named, Named]], list[str]]:
    """(images, labels) of the training and the test part, each with its name, or one pair, to be split; and
    the names of images beyond those."""
    by_name = {name.lower(): name for name in arrays}

    def find(part: str, names: tuple[str, ...]) -> str | None:
        tries = [t for name in names for t in ((f"{part}_{name}", f"{name}_{part}") if part else (name,))]
        return next((by_name[name] for name in tries if name in by_name), None)

    def pair(part: str) -> tuple[Named, Named] | None:
        image, label = find(part, IMAGE_NAMES), find(part, LABEL_NAMES)
        return ((image, arrays[image]), (label, arrays[label])) if image and label else None

    if (train := pair("train")) is not None:
        tests = [found for name in TEST_NAMES if (found := pair(name)) is not None]
        return [train, *tests[:1]], [image[0] for image, _ in tests[1:]]
    if (alone := pair("")) is not None:
        return [alone], []
    raise DataError(f"{file} holds {', '.join(arrays) or 'nothing'}.", WANTED)


def _channels_first(image: np.ndarray, name: str, file: Path) -> np.ndarray:
    """(N, 1 or 3, H, W), as a view."""
    if image.ndim == 3:
        return image[:, None]
    if image.ndim == 4 and image.shape[-1] in (1, 3):
        return image.transpose(0, 3, 1, 2)
    if image.ndim == 4 and image.shape[1] in (1, 3):
        return image
    raise DataError(
        f"{file}: {name} has shape {image.shape}.",
        "Expected (N, H, W), (N, H, W, 1 or 3) or (N, 1 or 3, H, W).",
    )


def _labels(label: np.ndarray, name: str, n: int, file: Path) -> np.ndarray:
    """(n,) whole numbers or texts."""
    flat = label[:, 0] if label.ndim == 2 and label.shape[1] == 1 else label
    if flat.shape != (n,):
        raise DataError(f"{file}: {name} has shape {label.shape}, but there are {n} images.")
    if flat.dtype.kind == "f" and np.array_equal(flat, np.round(flat)):
        flat = flat.astype(np.int64)
    if flat.dtype.kind not in "iubU":
        raise DataError(f"{file}: {name} is {label.dtype}.", "Expected whole numbers or texts.")
    return flat


def _classes(
    arrays: Mapping[str, np.ndarray], labels: list[np.ndarray], file: Path
) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """Class names, from an array `classes` or `class_names` if there is one, and the labels as 0 to C-1."""
    values = np.unique(labels[0])
    if len(values) < 2:
        raise DataError(f"{file} has one class only in its training part.", "Two or more are needed.")
    if len(strange := np.setdiff1d(labels[-1], values)):
        raise DataError(f"{file}: labels in the test part alone: {', '.join(map(str, strange[:10]))}.")
    named = next((arrays[key] for key in ("classes", "class_names") if key in arrays), values)
    names = tuple(map(str, values))
    if named.dtype.kind == "U" and values.dtype.kind in "iu" and values[0] >= 0 and values[-1] < len(named):
        names = tuple(str(named[int(value)]) for value in values)
    return names, [np.searchsorted(values, label) for label in labels]


def _size(images: list[np.ndarray], notes: list[str]) -> int:
    side = min(min(image.shape[2:]) for image in images)
    if any(image.shape[2:] != (side, side) for image in images):
        notes.append(f"The images are not all square and alike: their middle is used, at {side}×{side}.")
    return int(side)


def _fill(target: np.ndarray, image: np.ndarray, name: str, file: Path) -> None:
    factor = _factor(image, name, file)
    size = target.shape[-1]
    for rows in chunks(len(image)):
        part = image[rows]
        grey = part.astype(np.uint8) if factor == 1 and part.dtype.kind in "iub" else _rounded(part * factor)
        target[rows] = grey if grey.shape[2:] == (size, size) else _resized(grey, size)


def _factor(image: np.ndarray, name: str, file: Path) -> float:
    """What brings the values to 0 to 255."""
    if image.dtype.kind not in "iubf" or image.size == 0:
        raise DataError(f"{file}: {name} is {image.dtype} {image.shape}.", "Expected numbers.")
    low, high = float(image.min()), float(image.max())
    if image.dtype.kind == "b":
        return 255
    if not (low >= 0 and high <= 255):  # "not" also catches NaN
        raise DataError(
            f"{file}: {name} has values from {low:g} to {high:g}.",
            "Expected whole numbers from 0 to 255, or fractions from 0 to 1.",
        )
    return 255 if image.dtype.kind == "f" and high <= 1 else 1


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.round(values).astype(np.uint8)


def _resized(images: np.ndarray, size: int) -> np.ndarray:
    """The middle square of each of (n, C, H, W), resized."""
    out = np.empty((*images.shape[:2], size, size), np.uint8)
    for k, channel in np.ndindex(*images.shape[:2]):
        plane = Image.fromarray(np.ascontiguousarray(images[k, channel]))
        out[k, channel] = np.asarray(ImageOps.fit(plane, (size, size), Image.Resampling.BICUBIC))
    return out


def _split(labels: np.ndarray, knobs: ArrayKnobs, notes: list[str]) -> list[np.ndarray | slice]:
    held = stratified(labels, math.ceil(knobs.test_share * len(labels)), knobs.split_seed, leave=1)
    if len(held) == 0:
        raise DataError(f"{knobs.path}: one image of each class cannot be split.", "Add more images.")
    notes.append(f"No test part: {len(held)} of {len(labels)} images are set aside for testing.")
    return [np.delete(np.arange(len(labels)), held), held]
