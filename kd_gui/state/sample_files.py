"""Read what the engine wrote about sample pictures: the pictures, snapshots of the student, probes' answers.

All are .npz files without pickles; what does not fit is a StoreError that names the file. Heat comes as
float 0 to 1 and is kept as bytes, 0 to 255: a screen shows no more, and a snapshot of every epoch stays
small. Safe off the GUI thread.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kd_engine.errors import StoreError

NO_LABEL = -1


@dataclass(frozen=True, eq=False)
class Pictures:
    """The pictures that can be looked at, and the teacher's word on each where there is one. K pictures,
    C classes, S×S pixels.

    images: (K, S, S, 3) uint8. labels: (K,), NO_LABEL where unknown. indices: (K,) into the data's
    `part`. teacher_logits: (K, C), None without a teacher. masks: (K, S, S) bool, where the object lies,
    when that is known. teacher_heat: (K, S, S) uint8. tap: in words, where the teacher's heat was read.
    maps: what else both models can be asked for, as Map.from_json reads it. held_out_labels: of all N samples
    of the validation part, and held_out_teacher, the classes that the teacher names for them; in a run's
    folder only.
    """

    images: np.ndarray
    labels: np.ndarray
    indices: np.ndarray
    classes: tuple[str, ...]
    teacher_logits: np.ndarray | None
    masks: np.ndarray | None
    teacher_heat: np.ndarray | None
    part: str
    tap: str
    maps: tuple[Mapping[str, Any], ...] = ()
    held_out_labels: np.ndarray | None = None
    held_out_teacher: np.ndarray | None = None

    @property
    def count(self) -> int:
        return len(self.images)

    def class_name(self, index: int | None) -> str:
        """The class's name, empty for None and NO_LABEL."""
        return self.classes[index] if index is not None and 0 <= index < len(self.classes) else ""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The student at the end of an epoch: logits (K, C), heat (K, S, S) uint8 or None. tap: in words.
    held_out: (N,) the classes that it names for the validation part, None where they were not kept."""

    epoch: int
    logits: np.ndarray
    heat: np.ndarray | None
    tap: str
    held_out: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Answer:
    """A probe's answer about one picture: heat (S, S) uint8, logits (C,), taps in words; None where
    nobody was asked."""

    teacher_heat: np.ndarray | None
    student_heat: np.ndarray | None
    teacher_logits: np.ndarray | None
    student_logits: np.ndarray | None
    teacher_tap: str
    student_tap: str


def read_pictures(path: str | Path) -> Pictures:
    """The pictures in `path`. StoreError when they cannot be read or do not fit together."""
    file = _arrays(path)
    try:
        images = np.ascontiguousarray(file["images"].transpose(0, 2, 3, 1))
        pictures = Pictures(
            images=images,
            labels=file["labels"].astype(np.int64),
            indices=file["indices"].astype(np.int64),
            classes=tuple(str(name) for name in file["classes"]),
            teacher_logits=_logits(file, "teacher_logits"),
            masks=file["masks"] > 0.5 if "masks" in file else None,
            teacher_heat=_bytes(file["teacher_heat"]) if "teacher_heat" in file else None,
            part=_word(file, "part") or "validation",
            tap=_word(file, "teacher_tap"),
            maps=tuple(json.loads(_word(file, "maps") or "[]")),
            held_out_labels=_classes(file, "validation_labels"),
            held_out_teacher=_classes(file, "teacher_validation_predictions"),
        )
    except (KeyError, ValueError) as error:
        raise StoreError(f"{path}: not a file of sample pictures: {error}.") from None
    count, size = images.shape[0], images.shape[1:3]
    fits = (
        images.dtype == np.uint8
        and images.shape[3] == 3
        and pictures.labels.shape == pictures.indices.shape == (count,)
        and _fits(pictures.teacher_logits, (count, len(pictures.classes)))
        and _fits(pictures.masks, (count, *size))
        and _fits(pictures.teacher_heat, (count, *size))
        and _named(pictures.held_out_labels, pictures.held_out_labels, len(pictures.classes))
        and _named(pictures.held_out_teacher, pictures.held_out_labels, len(pictures.classes))
    )
    if not fits or count == 0:
        raise StoreError(f"{path}: not a file of sample pictures: its arrays do not fit together.")
    return pictures


def read_snapshot(epoch: int, path: str | Path, pictures: Pictures) -> Snapshot:
    """The student's word on the same `pictures`. StoreError when it cannot be read or speaks of others."""
    file = _arrays(path)
    logits, heat = _logits(file, "student_logits"), file.get("student_heat")
    said = _classes(file, "validation_predictions")
    shape = (pictures.count, len(pictures.classes))
    if logits is None or not _fits(logits, shape) or not _fits(heat, pictures.images.shape[:3]):
        raise StoreError(f"{path}: not a snapshot of these pictures.")
    if not _named(said, pictures.held_out_labels, len(pictures.classes)):
        raise StoreError(f"{path}: not a snapshot of this validation part.")
    return Snapshot(epoch, logits, None if heat is None else _bytes(heat), _word(file, "student_tap"), said)


def read_answer(path: str | Path) -> Answer:
    """A probe's answer. StoreError when it cannot be read."""
    file = _arrays(path)
    return Answer(
        teacher_heat=_bytes(file["teacher"]) if "teacher" in file else None,
        student_heat=_bytes(file["student"]) if "student" in file else None,
        teacher_logits=_logits(file, "teacher_logits"),
        student_logits=_logits(file, "student_logits"),
        teacher_tap=_word(file, "teacher_tap"),
        student_tap=_word(file, "student_tap"),
    )


def _arrays(path: str | Path) -> dict[str, np.ndarray]:
    try:
        with open(path, "rb") as stream:  # our own handle: numpy leaves its own open when the file is torn
            file = np.load(stream, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array")
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise StoreError(f"{path}: cannot be read: {error}.") from None


def _bytes(heat: np.ndarray) -> np.ndarray:
    """Heat 0 to 1 as 0 to 255; what is no number counts as no heat."""
    clean = np.nan_to_num(np.asarray(heat, dtype=np.float32), nan=0.0, posinf=1.0, neginf=0.0)
    return np.asarray(np.clip(clean, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def _logits(file: dict[str, np.ndarray], name: str) -> np.ndarray | None:
    return file[name].astype(np.float64) if name in file else None


def _fits(array: np.ndarray | None, shape: tuple[int, ...]) -> bool:
    return array is None or array.shape == shape


def _classes(file: dict[str, np.ndarray], name: str) -> np.ndarray | None:
    return file[name].astype(np.int64) if name in file else None


def _named(said: np.ndarray | None, labels: np.ndarray | None, classes: int) -> bool:
    """Whether `said` holds a class for each of the labels (N,); what is not there cannot be wrong."""
    if said is None:
        return True
    inside = bool(((said >= 0) & (said < classes)).all())
    return labels is not None and said.ndim == 1 and said.shape == labels.shape and inside


def _word(file: dict[str, np.ndarray], name: str) -> str:
    return str(file[name]) if name in file else ""
