"""What student and teacher are worth, class by class: on the test part once a run has ended, on the
validation part after every epoch.

Test figures come with the run's own log; whatever that does not tell (the exact protocol, robustness, older
runs, stopped ones) is asked of the engine. The validation part follows the samples' epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from PySide6.QtCore import QObject, Signal

from kd_engine.events import STUDENT
from kd_gui.state import measures
from kd_gui.state.feed import Feed
from kd_gui.state.measures import Figures
from kd_gui.state.samples import Samples

Part = Literal["test", "validation"]
TEACHER = "teacher/last"
OURS = f"{STUDENT}/last"
WHOLE = ("confusion", "calibration", "ece")  # what a log tells of a model that was measured in full


@dataclass(frozen=True, eq=False)
class Shown:
    """Two models on the same samples. who: "NAME/WEIGHTS" of the student; epoch: on validation, after which.
    rivals: their accuracies by name, on the same part."""

    part: Part
    classes: tuple[str, ...]
    teacher: Figures | None
    student: Figures
    who: str = OURS
    epoch: int | None = None
    images: int = 0
    rivals: Mapping[str, float] = field(default_factory=dict)

    @property
    def ours(self) -> bool:
        """Whether it is the recipe's own student that is compared, not a rival."""
        return self.who.startswith(f"{STUDENT}/")

    @property
    def role(self) -> str:
        return "student" if self.ours else "rival"

    @property
    def gaps(self) -> np.ndarray | None:
        return measures.gaps(self.student, self.teacher)

    @property
    def retention(self) -> float | None:
        """The student's accuracy over the teacher's."""
        taught = self.teacher.top1 if self.teacher is not None else None
        return self.student.top1 / taught if self.student.top1 is not None and taught else None


@dataclass(frozen=True, eq=False)
class _Answer:
    """The engine's, about one run."""

    models: Mapping[str, Figures]
    classes: tuple[str, ...]
    protocol: Mapping[str, Any]
    notes: tuple[str, ...]


class Evaluation(QObject):
    """Views listen to `changed` and read; `wanted(robust)` asks whoever owns the engine, `take` and `refuse`
    are called with what came of it."""

    changed = Signal()
    wanted = Signal(bool)

    def __init__(self, feed: Feed, samples: Samples, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._feed = feed
        self._samples = samples
        self.may_ask = False  # whether the engine could be asked now
        self.asking = ""  # "plain" or "robust" while an answer is awaited
        self.trouble = ""  # why there was none, in words
        self._run = ""
        self._part: Part | None = None  # as the user chose; None: as it suits
        self._who = OURS
        self._answer: _Answer | None = None
        self._watched = self._looked = False
        self._scrubbed: int | None = None
        self._told: dict[str, Figures] | None = None  # what the log tells of the test part
        self._now: Shown | None = None
        self._stale = True
        feed.run_changed.connect(self._on_run)
        feed.epochs_changed.connect(self._on_results)
        samples.epochs_changed.connect(self._on_epoch)
        samples.loaded.connect(self._renew)

    # ---- what there is -------------------------------------------------------------------------------------
    @property
    def live(self) -> bool:
        return self._feed.live

    @property
    def empty(self) -> bool:
        """No run is shown at all."""
        return self._feed.empty

    def models(self) -> dict[str, Figures]:
        """What was measured on the test part, by "NAME/WEIGHTS", the teacher first; empty before that."""
        if self._answer is not None:
            return dict(self._answer.models)
        if self._told is None:
            told = self._feed.evaluated.items()
            found = {f"{name}/{weights}": measures.figures(one) for (name, weights), one in told}
            self._told = {name: one for name, one in found.items() if one.recall is not None}
        return self._told

    def parts(self) -> list[Part]:
        """Where there is something to show."""
        held_out = self._samples.held_out() is not None and not self._feed.empty
        test = any(name != TEACHER for name in self.models())
        return [part for part, there in (("test", test), ("validation", held_out)) if there]  # type: ignore[misc]

    @property
    def part(self) -> Part | None:
        """The one that is shown: as chosen, else test before validation; None without any. The test part can
        be chosen before it was measured, once the run has ended."""
        parts = self.parts()
        if self._part in parts or (self._part == "test" and parts and not self.live):
            return self._part
        return next(iter(parts), None)

    def students(self) -> list[str]:
        """Whom the teacher can be compared with on the part that is shown: "NAME/WEIGHTS"."""
        if self.part == "test":
            return [name for name in self.models() if name != TEACHER]
        return [OURS] if self.part == "validation" else []

    def shown(self) -> Shown | None:
        """What to draw; None before there is anything."""
        if self._stale:
            self._now, self._stale = self._make(), False
        return self._now

    @property
    def protocol(self) -> Mapping[str, Any]:
        """The engine's, for the test part (kd_engine.examination.protocol); empty while it was not asked."""
        return self._answer.protocol if self._answer is not None else {}

    @property
    def notes(self) -> tuple[str, ...]:
        return self._answer.notes if self._answer is not None else ()

    def example(self, row: int, column: int) -> int | None:
        """A picture of the strip whose class is `row` and that the student takes for `column`."""
        pictures = self._samples.pictures
        if pictures is None:
            return None
        for i in np.flatnonzero(pictures.labels == row).tolist():
            if self._samples.predictions(i)[1] == column:
                return int(i)
        return None

    # ---- what the user does --------------------------------------------------------------------------------
    def choose_part(self, part: str) -> None:
        self._part = part  # type: ignore[assignment]
        self._renew()

    def choose_student(self, who: str) -> None:
        """One of `students`."""
        self._who = who
        self._renew()

    def look_at(self, row: int, column: int) -> None:
        """Make a picture of that mistake the current one, if the strip has one."""
        index = self.example(row, column)
        if index is not None:
            self._samples.set_filter("all")
            self._samples.select(index)

    def ask(self, *, robust: bool = False) -> None:
        """Have the shown run's models measured on the test part, and on corrupted copies of it."""
        if self.may_ask and not self.asking:
            self.asking, self.trouble = "robust" if robust else "plain", ""
            self.wanted.emit(robust)
            self.changed.emit()

    def watch(self, watched: bool) -> None:
        """Whether anybody looks: then what the log does not tell of a finished run is asked for, as long as
        it costs nothing."""
        self._watched = watched
        self._look()

    def allow(self, may_ask: bool) -> None:
        """The engine can be asked about the shown run now, or not."""
        if may_ask != self.may_ask:
            self.may_ask = may_ask
            self.changed.emit()
            self._look()

    # ---- what comes back -----------------------------------------------------------------------------------
    def take(self, run: str, told: Mapping[str, Any]) -> None:
        """The engine's answer about `run`; one about another run than the shown one is dropped."""
        if run != self._run or self._feed.live:
            return
        self._answer = _Answer(
            {name: measures.figures(one) for name, one in told["models"].items()},
            tuple(str(name) for name in told["classes"]),
            told["protocol"],
            tuple(told["notes"]),
        )
        self.asking = ""
        self._renew()

    def refuse(self, run: str, why: str) -> None:
        """There will be no answer."""
        if run == self._run:
            self.asking, self.trouble = "", why
            self.changed.emit()

    # ---- following -----------------------------------------------------------------------------------------
    def _on_run(self) -> None:
        if self._feed.run != self._run:
            self._forget()
            self._run, self._part, self._who, self._looked = self._feed.run, None, OURS, False
            self._renew()
        elif self._feed.live and (self._answer is not None or self.asking):  # resumed: other weights now
            self._forget()
            self._renew()
        self._look()

    def _on_results(self) -> None:
        self._told = None
        self._renew()
        self._look()

    def _on_epoch(self) -> None:
        """Moving the scrubber asks for the past, which only the validation part has."""
        epoch = self._samples.epoch
        if epoch is not None and epoch != self._scrubbed:
            self._part = "validation"
        self._scrubbed = epoch
        self._renew()

    def _forget(self) -> None:
        self._answer, self._told, self.asking, self.trouble = None, None, "", ""

    def _look(self) -> None:
        told = self._feed.evaluated
        whole = bool(told) and all(
            name in one for (_, weights), one in told.items() if weights == "last" for name in WHOLE
        )
        if self._watched and whole and self._feed.status == "done" and self.may_ask and not self._looked:
            self._looked = True
            self.ask()

    def _renew(self) -> None:
        self._stale = True
        self.changed.emit()

    def _make(self) -> Shown | None:
        part = self.part
        if part == "test":
            return self._on_test() if "test" in self.parts() else None
        return self._on_validation() if part == "validation" else None

    def _on_test(self) -> Shown:
        models = self.models()
        students = self.students()
        who = self._who if self._who in students else students[0]
        student = models[who]
        classes = self._answer.classes if self._answer is not None else self._classes(student)
        rivals = {
            name.rpartition("/")[0]: one.top1
            for name, one in models.items()
            if name.rpartition("/")[0] not in (STUDENT, "teacher") and one.top1 is not None
        }
        images = int(student.support.sum()) if student.support is not None else 0
        return Shown("test", classes, models.get(TEACHER), student, who, None, images, rivals)

    def _on_validation(self) -> Shown:
        said, pictures = self._samples.held_out(), self._samples.pictures
        assert said is not None
        assert pictures is not None
        count = len(pictures.classes)
        teacher = None
        if said.teacher is not None:
            teacher = measures.predicted(said.labels, said.teacher, None, count)
        student = measures.predicted(said.labels, said.student, said.teacher, count)
        told = next((one for one in self._feed.epochs.get(STUDENT, ()) if one.x == said.epoch), None)
        if told is not None:
            student = replace(student, kl=told.validation.get("kl"))
        rivals = {
            name: one.validation["top1"]
            for name, epochs in self._feed.epochs.items()
            for one in epochs
            if name != STUDENT and one.x == said.epoch and "top1" in one.validation
        }
        return Shown(
            "validation", pictures.classes, teacher, student, OURS, said.epoch, len(said.labels), rivals
        )

    def _classes(self, student: Figures) -> tuple[str, ...]:
        """As the log names them, else by number."""
        count = len(student.recall) if student.recall is not None else 0
        named = tuple(self._feed.stage.classes) if self._feed.stage is not None else ()
        return named if len(named) == count else tuple(str(i) for i in range(count))
