"""All that both models have said about the pictures so far, and which part of it answers a question. No Qt.

Two sources: files that hold every picture (the teacher's word, and the student's after each epoch), all
for one map; and probes' answers about single pictures, for any map and tap. A probe's answer is the newer
one until the next snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kd_gui.state import answers
from kd_gui.state.sample_files import NO_LABEL, Answer, Pictures, Snapshot

FILTERS = ("all", "disagree", "wrong")


@dataclass(frozen=True)
class View:
    """What is asked for. index: of a picture; epoch: None for the newest student.

    plain: it is the map and tap that the files hold, attention at its best tap.
    """

    index: int
    map: str
    tap: str
    epoch: int | None
    plain: bool

    @property
    def key(self) -> tuple[int, str, str]:
        return self.index, self.map, self.tap


@dataclass(frozen=True)
class Look:
    """All there is to draw of one picture. Heat: (S, S) uint8, None where there is none yet.

    image: (S, S, 3). mask: (S, S) bool or None. label, teacher_says, student_says: classes. place: where
    the heat was read, in words. on_object: share of the heat inside the mask. newest: the heat is the
    newest student's although an earlier epoch was asked for (only the plain map is kept by epoch).
    """

    image: np.ndarray
    mask: np.ndarray | None
    label: int | None
    teacher_says: int | None
    student_says: int | None
    teacher_heat: np.ndarray | None
    student_heat: np.ndarray | None
    place: str
    similarity: float | None
    teacher_on_object: float | None
    student_on_object: float | None
    newest: bool


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What both models name for all N samples of the validation part, after an epoch. labels, student,
    teacher: (N,) classes; teacher is None where there is none."""

    epoch: int
    labels: np.ndarray
    student: np.ndarray
    teacher: np.ndarray | None


@dataclass(frozen=True)
class _Kept:
    answer: Answer
    numbers: Mapping[str, float]
    age: int  # how many snapshots had come before it


class Said:
    """What is known about one set of pictures, one teacher and one student."""

    def __init__(self, pictures: Pictures) -> None:
        self.pictures = pictures
        self.snapshots: dict[int, Snapshot] = {}
        self._kept: dict[tuple[int, str, str], _Kept] = {}
        self._arrived = 0

    @property
    def has_student(self) -> bool:
        return bool(self.snapshots)

    def add(self, snapshot: Snapshot) -> None:
        self.snapshots[snapshot.epoch] = snapshot
        self._arrived += 1

    def keep(self, key: tuple[int, str, str], answer: Answer, numbers: Mapping[str, float]) -> None:
        self._kept[key] = _Kept(answer, numbers, self._arrived)

    def is_current(self, view: View) -> bool:
        """Whether a probe has answered for this view since the last snapshot."""
        kept = self._kept.get(view.key)
        return kept is not None and kept.age == self._arrived

    def snapshot(self, epoch: int | None) -> Snapshot | None:
        """The snapshot of `epoch`, or the newest for None; None when there is none at all."""
        if not self.snapshots:
            return None
        return self.snapshots[max(self.snapshots) if epoch is None else epoch]

    def held_out(self, epoch: int | None) -> HeldOut | None:
        """The validation part after `epoch` (None: the newest); None where nothing was kept of it."""
        snapshot, labels = self.snapshot(epoch), self.pictures.held_out_labels
        if snapshot is None or snapshot.held_out is None or labels is None:
            return None
        return HeldOut(snapshot.epoch, labels, snapshot.held_out, self.pictures.held_out_teacher)

    def teacher_logits(self, index: int) -> np.ndarray | None:
        logits = self.pictures.teacher_logits
        return None if logits is None else logits[index]

    def student_logits(self, view: View) -> np.ndarray | None:
        if view.epoch is None and self.is_current(view):
            said = self._kept[view.key].answer.student_logits
            if said is not None:
                return said
        snapshot = self.snapshot(view.epoch)
        return None if snapshot is None else snapshot.logits[view.index]

    def look(self, view: View) -> Look:
        """Everything to draw for `view`."""
        pictures, i = self.pictures, view.index
        kept = self._usable(view)
        teacher, student = self._heats(view, kept)
        mask = None if pictures.masks is None else pictures.masks[i]
        numbers = {} if kept is None else kept.numbers
        plain_tap = pictures.tap if view.plain else ""
        return Look(
            image=pictures.images[i],
            mask=mask,
            label=None if pictures.labels[i] == NO_LABEL else int(pictures.labels[i]),
            teacher_says=_choice(self.teacher_logits(i)),
            student_says=_choice(self.student_logits(view)),
            teacher_heat=teacher,
            student_heat=student,
            place=plain_tap if kept is None else kept.answer.teacher_tap or plain_tap,
            similarity=None if teacher is None or student is None else answers.similarity(teacher, student),
            teacher_on_object=_on_object(teacher, mask, numbers.get("teacher_on_object")),
            student_on_object=_on_object(student, mask, numbers.get("student_on_object")),
            newest=student is not None and not view.plain and view.epoch is not None,
        )

    def predictions(self, index: int, epoch: int | None) -> tuple[int | None, int | None]:
        """The classes that teacher and student choose for a picture, None for one that is not there (yet)."""
        snapshot = self.snapshot(epoch)
        student = None if snapshot is None else snapshot.logits[index]
        return _choice(self.teacher_logits(index)), _choice(student)

    def marks(self, index: int, epoch: int | None) -> tuple[bool, bool]:
        """(the student is wrong, the models disagree) about a picture; False, False before there is a
        student."""
        teacher, student = self.predictions(index, epoch)
        if student is None:
            return False, False
        return int(self.pictures.labels[index]) not in (NO_LABEL, student), teacher not in (None, student)

    def chosen(self, filter: str, epoch: int | None) -> list[int]:
        """The pictures that one of FILTERS shows. Disagreement comes by falling KL at T = 1, so that the
        order stands still while the temperature moves."""
        everything = range(self.pictures.count)
        if filter == "all":
            return list(everything)
        found = [i for i in everything if self.marks(i, epoch)[filter == "disagree"]]
        teacher, snapshot = self.pictures.teacher_logits, self.snapshot(epoch)
        if filter == "disagree" and teacher is not None and snapshot is not None:
            apart = answers.divergence(teacher, snapshot.logits, 1.0)
            found.sort(key=lambda i: -apart[i])
        return found

    def _usable(self, view: View) -> _Kept | None:
        """A probe's answer to draw. For the plain map the files have, only one that is newer than they
        are."""
        kept = self._kept.get(view.key)
        if kept is None or not view.plain or not self.snapshots:
            return kept
        return kept if view.epoch is None and self.is_current(view) else None

    def _heats(self, view: View, kept: _Kept | None) -> tuple[np.ndarray | None, np.ndarray | None]:
        teacher = student = None
        if view.plain:
            heat, snapshot = self.pictures.teacher_heat, self.snapshot(view.epoch)
            teacher = None if heat is None else heat[view.index]
            student = None if snapshot is None or snapshot.heat is None else snapshot.heat[view.index]
        if kept is not None:
            teacher = teacher if kept.answer.teacher_heat is None else kept.answer.teacher_heat
            student = student if kept.answer.student_heat is None else kept.answer.student_heat
        return teacher, student


def _on_object(heat: np.ndarray | None, mask: np.ndarray | None, told: float | None) -> float | None:
    return told if heat is None or mask is None else answers.share_inside(heat, mask)


def _choice(logits: np.ndarray | None) -> int | None:
    return None if logits is None else int(np.argmax(logits))
