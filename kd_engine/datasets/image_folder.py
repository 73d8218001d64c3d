"""Your own pictures: `train/CLASS/*` and `test/CLASS/*`, or `CLASS/*` to be split."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kd_engine.datasets import IMAGENET, Dataset, Loaded, Part, Progress, Resident, stratified
from kd_engine.datasets._images import BROKEN, Files, decode, decode_all, image_files, listing_key, measure
from kd_engine.datasets._kept import keep, recall
from kd_engine.errors import DataError
from kd_engine.knobs import Knobs, knob

TRAIN = ("train", "training")
TEST = ("test", "testing", "val", "valid", "validation")  # the first one present is the test part
LAYOUT = "Expected PATH/train/CLASS/* and PATH/test/CLASS/*, or PATH/CLASS/*, with one folder for each class."
MOST_BROKEN = 0.01
WORTH_KEEPING_S = 1.0  # pictures that took longer to decode are kept decoded
SMALLEST, LARGEST = 64, 224  # the size chosen for images of different sizes lies between these


class FolderKnobs(Knobs):
    path: str = knob(
        ..., "The folder with the pictures: train/CLASS/* and test/CLASS/*, or CLASS/*.", label="Folder"
    )
    size: int | None = knob(
        None,
        "Height and width to bring all pictures to. Null: theirs, if all are alike.",
        low=8,
        high=512,
        unit="px",
    )
    test_share: float = knob(
        0.2, "Share set aside for testing, where there is no test folder.", low=0.05, high=0.5
    )
    split_seed: int = knob(0, "Chooses the pictures set aside for testing.", low=0, advanced=True)


@dataclass
class Listing:
    """Which files there are. `fixed`: how many, from the first, are training files for sure; None: to be
    split."""

    classes: tuple[str, ...]
    files: list[Path]
    labels: np.ndarray
    fixed: int | None
    notes: list[str]

    def without(self, broken: set[Path]) -> Listing:
        keep = np.array([file not in broken for file in self.files])
        fixed = None if self.fixed is None else int(keep[: self.fixed].sum())
        files = [file for file in self.files if file not in broken]
        return Listing(self.classes, files, self.labels[keep], fixed, self.notes)


class ImageFolder(Dataset):
    name = "image-folder"
    title = "Folder of pictures"
    help = "Your own pictures, one folder for each class. Any size and mode; the middle square is used."
    Knobs = FolderKnobs

    @classmethod
    def load(cls, knobs: FolderKnobs, root: Path, progress: Progress, memory_mb: int) -> Loaded:
        folder = Path(knobs.path).expanduser()
        progress("listing the pictures", None)
        listing = _list(folder)
        sizes = []
        for k, file in enumerate(listing.files):
            sizes.append(measure(file))
            if k % 1000 == 0:
                progress("measuring the pictures", k / len(listing.files))
        broken = {file for file, size in zip(listing.files, sizes, strict=True) if size is None}
        _check_broken(broken, len(listing.files))
        size = knobs.size or _common_size([size for size in sizes if size is not None])
        left = listing.without(broken)
        pixels = None
        if len(left.files) * 3 * size * size <= memory_mb * 2**20:
            pixels, damaged = _read(left.files, size, progress)
            _check_broken(broken | damaged, len(listing.files))
            pixels = pixels[[file not in damaged for file in left.files]] if damaged else pixels
            broken, left = broken | damaged, left.without(damaged)
        if broken:
            names = ", ".join(sorted(str(file.relative_to(folder)) for file in broken))
            left.notes.append(f"{len(broken)} of {len(listing.files)} pictures cannot be read: {names}.")
        return _parts(left, pixels, size, knobs)


def _parts(listing: Listing, pixels: np.ndarray | None, size: int, knobs: FolderKnobs) -> Loaded:
    for part, labels in (
        ("", listing.labels[: listing.fixed]),
        ("test part: ", listing.labels[listing.fixed or 0 :]),
    ):
        counts = np.bincount(labels, minlength=len(listing.classes))
        if empty := [name for name, count in zip(listing.classes, counts, strict=True) if count == 0]:
            raise DataError(
                f"{part}no pictures of {', '.join(empty)} (in {knobs.path}).",
                "Add some, or remove the folder.",
            )
    everyone = np.arange(len(listing.files))
    if listing.fixed is None:
        held = stratified(
            listing.labels, math.ceil(knobs.test_share * len(everyone)), knobs.split_seed, leave=1
        )
        groups = [np.delete(everyone, held), held]
        listing.notes.append(
            f"No test folder: {len(held)} of {len(everyone)} pictures are set aside for testing."
        )
        if len(held) == 0:
            raise DataError(f"{knobs.path}: one picture of each class cannot be split.", "Add more pictures.")
    else:
        groups = np.split(everyone, [listing.fixed])
    train, test = (_part(listing, group, pixels, size) for group in groups)
    return Loaded(train, test, listing.classes, *IMAGENET, notes=tuple(listing.notes))


def _part(listing: Listing, group: np.ndarray, pixels: np.ndarray | None, size: int) -> Part:
    labels = listing.labels[group]
    if pixels is None:
        return Files([listing.files[k] for k in group], labels, size)
    whole = slice(group[0], group[-1] + 1)
    return Resident(pixels[whole] if len(group) == group[-1] + 1 - group[0] else pixels[group], labels)


def _read(files: Sequence[Path], size: int, progress: Progress) -> tuple[np.ndarray, set[Path]]:
    """All pixels, and the files that cannot be read (whose pixels are black)."""
    key, shape, start = listing_key(files, size), (len(files), 3, size, size), time.monotonic()
    if (kept := recall(key, shape)) is not None:
        return kept, set()
    pixels = np.zeros(shape, np.uint8)

    def one(file: Path) -> np.ndarray | None:
        try:
            return decode(file, size)
        except BROKEN:
            return None

    damaged = set()
    for k, image in enumerate(decode_all(files, one)):
        if image is None:
            damaged.add(files[k])
        else:
            pixels[k] = image
        if k % 500 == 0:
            progress("reading the pictures", k / len(files))
    if not damaged and time.monotonic() - start > WORTH_KEEPING_S:
        keep(key, pixels)
    return pixels, damaged


def _check_broken(broken: set[Path], files: int) -> None:
    if len(broken) > MOST_BROKEN * files:
        some = ", ".join(str(file) for file in sorted(broken)[:10]) + (", ..." if len(broken) > 10 else "")
        raise DataError(
            f"{len(broken)} of {files} pictures cannot be read, more than {MOST_BROKEN:.0%}: {some}.",
            "Remove or replace them.",
        )


def _common_size(sizes: Sequence[tuple[int, int]]) -> int:
    """The side of the pictures when all are alike and square, else the median of their shorter sides, within
    limits."""
    width, height = sizes[0]
    if width == height <= LARGEST and all(size == sizes[0] for size in sizes):
        return width
    median = float(np.median([min(size) for size in sizes]))
    return int(np.clip(round(median / 16) * 16, SMALLEST, LARGEST))


def _list(folder: Path) -> Listing:
    if not folder.exists():
        raise DataError(f"there is no folder {folder}.", "Check data.path.")
    if not folder.is_dir():
        raise DataError(f"{folder} is a file, not a folder.", "Unpack it, if it is an archive. " + LAYOUT)
    below = {child.name.lower(): child for child in _folders(folder)}
    train = next((below[name] for name in TRAIN if name in below), None)
    tests = [below[name] for name in TEST if name in below]
    if train is None:
        if below and len(tests) == len(below):
            raise DataError(f"{folder} has {', '.join(below)}, but no train.", LAYOUT)
        classes, files, labels = _classes(folder)
        return Listing(classes, files, labels, None, [])
    classes, files, labels = _classes(train)
    if not tests:
        return Listing(classes, files, labels, None, [])
    others, more, answers = _classes(tests[0])
    if classes != others:
        raise DataError(
            f"{train} and {tests[0]} hold different classes: "
            f"{_difference(classes, others, train.name)}{_difference(others, classes, tests[0].name)}.",
            "Give both the same folders.",
        )
    notes = [
        f"{extra} is not used: the validation part is taken from the training part." for extra in tests[1:]
    ]
    return Listing(classes, files + more, np.concatenate([labels, answers]), len(files), notes)


def _difference(here: Sequence[str], there: Sequence[str], name: str) -> str:
    only = [label for label in here if label not in there]
    return f"only in {name}: {', '.join(only)}; " if only else ""


def _folders(folder: Path) -> list[Path]:
    found = [child for child in folder.iterdir() if child.is_dir() and child.name[0] not in "._"]
    return sorted(found, key=lambda child: child.name)


def _classes(folder: Path) -> tuple[tuple[str, ...], list[Path], np.ndarray]:
    """Class names, files in class order, and their labels."""
    members = {child.name: image_files(child) for child in _folders(folder)}
    if not any(members.values()):
        raise DataError(f"{folder} holds no pictures in class folders.", LAYOUT)
    if empty := [name for name, files in members.items() if not files]:
        raise DataError(f"{folder}: no pictures in {', '.join(empty)}.", "Add some, or remove the folder.")
    if len(members) == 1:
        raise DataError(
            f"{folder} has one class only, {next(iter(members))}.", "Two or more are needed. " + LAYOUT
        )
    labels = np.repeat(np.arange(len(members)), [len(files) for files in members.values()])
    return tuple(members), [file for files in members.values() for file in files], labels
