"""What is told and kept of a run: its log, reports, checkpoints, pictures and summary, in the run's folder.

An event is in the log before anybody else hears of it.
"""

from __future__ import annotations

import logging
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kd_engine import card, checkpoint, graft, weights
from kd_engine import events as e
from kd_engine.classroom import Classroom
from kd_engine.commands import Command
from kd_engine.errors import KdError
from kd_engine.events import Event
from kd_engine.gallery import Gallery, keep
from kd_engine.keeper import Keeper
from kd_engine.snapshots import SAMPLES, name_of
from kd_engine.standing import Standing
from kd_engine.store import BEST, LAST, SUMMARY, RunFolder, assistant_file
from kd_engine.trainee import Report, Trainee

REPORT_S = 0.05  # a report waits for the device once, so there are at most twenty a second

log = logging.getLogger("kd_engine")


class Journal:
    """Writes for one run. StoreError when the disk refuses."""

    def __init__(self, run: RunFolder, now: Standing) -> None:
        self.run = run
        self._now = now
        self.images = 0  # that the students learned from since the last report
        self._keeper: Keeper[Event] = Keeper()
        self.start_clock()

    # -- words ---------------------------------------------------------------------------------------------

    def say(self, event: Event) -> Event:
        self.run.append(event)
        return event

    def notice(self, level: str, code: str, message: str, **values: Any) -> Event:
        return self.say(e.Notice(level=level, code=code, message=message, values=values))

    def refuse(self, command: Command, path: str, why: str) -> Event:
        return self.say(e.Refused(command=type(command).__name__, path=path, why=why))

    def resumed(self, environment: dict[str, Any]) -> Event:
        now, run = self._now, self.run
        return self.say(
            e.RunResumed(
                run=run.name,
                folder=str(run.folder),
                recipe=now.document,
                environment=environment,
                stage=now.at.stage,
                epoch=now.at.epoch,
                step=now.at.step,
            )
        )

    # -- reports -------------------------------------------------------------------------------------------

    def due(self) -> bool:
        """Whether it is time for a report."""
        return time.perf_counter() - self._clock >= REPORT_S

    def start_clock(self) -> None:
        """What came before does not count as training."""
        self._clock = time.perf_counter()
        self.images = 0

    def report(self) -> tuple[list[Event], tuple[Trainee, Report] | None]:
        """What happened since the last report, for every student, and the first of them with a loss that is
        no number."""
        took = time.perf_counter() - self._clock
        reports = [(student, student.report()) for student in self._now.students]
        self._now.at.seconds += took
        rate = self.images / max(took, 1e-9)
        told = [self._step_done(student, report, rate) for student, report in reports if report.steps]
        bad = next(((student, report) for student, report in reports if report.bad is not None), None)
        self.start_clock()
        return told, bad

    def _step_done(self, student: Trainee, report: Report, samples_per_s: float) -> Event:
        at = self._now.at
        return self.say(
            e.StepDone(
                stage=at.stage,
                epoch=at.epoch,
                step=at.step,
                student=student.name,
                loss=report.loss,
                terms=report.terms,
                weighted=report.weighted,
                lr=student.lr,
                samples_per_s=samples_per_s,
            )
        )

    # -- files ---------------------------------------------------------------------------------------------

    def begin_checkpoint(self, room: Classroom) -> None:
        """Have all that a resume needs kept, then the weights for others to use; `checkpointed` tells of it.
        What is kept is how things stand now. Asks for the outcome of the checkpoint before to be told
        first."""
        at = replace(self._now.at)
        content = checkpoint.packed(self._now.checkpoint(room.data.fingerprint))
        places = self._places()
        facts = self._card(room, at.stage)

        def keep() -> Event:
            path, took = checkpoint.save(self.run, content)
            weights.save_state(places, checkpoint.student_in(content), facts)
            size = path.stat().st_size
            return e.CheckpointSaved(
                stage=at.stage, epoch=at.epoch, step=at.step, path=str(path), bytes=size, ms=took
            )

        self._keeper.begin(keep)

    def checkpointed(self, wait: bool) -> Event | None:
        """Tells that the last checkpoint is on the disk, once, if it is, or after waiting for it. StoreError
        when the disk refused it."""
        told = self._keeper.outcome(wait)
        return None if told is None else self.say(told)

    def close(self) -> None:
        """Wait for a checkpoint that is being kept, and write down that it is. Idempotent."""
        try:
            self.checkpointed(wait=True)
        except KdError as refused:
            log.error("could not keep the last checkpoint: %s", refused)

    def keep_weights(self, room: Classroom) -> None:
        """Write the student's last weights, and its best when it has just reached them.

        After the checkpoint, which holds them too: so the best never come from a future that a kill undid,
        and a resume can write what a kill left unwritten.
        """
        self._keep_student(room, self._now.at.stage, self._places())

    def keep_assistant(self, room: Classroom, stage: int) -> None:
        """The student that ends a stage and teaches the next."""
        self._keep_student(room, stage, [self.run.path(assistant_file(stage))])

    def _keep_student(self, room: Classroom, stage: int, places: list[Path]) -> None:
        state = self._now.students[0].module.state_dict()
        weights.save_state(places, state, self._card(room, stage))

    def _places(self) -> list[Path]:
        """Of the student's weights for others to use, as they are now."""
        return [self.run.path(name) for name in ((LAST, BEST) if self._now.best_now else (LAST,))]

    def _card(self, room: Classroom, stage: int) -> dict[str, str]:
        """What the weights' file says of the student as it is now."""
        module = self._now.students[0].module
        told = {"name": self._now.recipe.name, "run": self.run.name, "step": self._now.at.step}
        return card.to_metadata(card.make(room.section(stage), room.data, **told, **graft.described(module)))

    def samples(self, gallery: Gallery, teacher: np.ndarray | None = None) -> Event:
        """The pictures of the strip, and what the teacher says of them and of the validation part: the same
        for the whole run. teacher: see Gallery.labels."""
        path = self.run.path(SAMPLES)
        if not path.exists():
            keep(self.run, SAMPLES, {**gallery.samples(), **gallery.labels(teacher)})
        return self.say(e.SamplesReady(path=str(path), part=gallery.part))

    def snapshot(self, gallery: Gallery, said: np.ndarray | None = None) -> Event:
        """What the student sees of them now. said: its logits on the validation part, see
        Gallery.choices."""
        now = self._now
        student, epoch = now.students[0], now.epochs
        arrays = gallery.snapshot(student.module, student.taps, epoch)
        path = keep(self.run, name_of(epoch), {**arrays, **gallery.choices(student.module, said)})
        return self.say(e.SnapshotSaved(stage=now.at.stage, epoch=epoch, step=now.at.step, path=path))

    def summarise(self, status: str, figures: dict[str, Any] | None = None) -> dict[str, Any]:
        now = self._now
        best = {student.name: student.best for student in now.students if student.best}
        summary = {
            "status": status,
            "run": self.run.name,
            "name": now.recipe.name,
            "epochs": now.epochs,
            "seconds": now.at.seconds,
            "temperature": _temperature(now.document),
            "best_validation": {name: {"top1": top1, "epoch": epoch} for name, (top1, epoch) in best.items()},
            **(figures or {}),
        }
        self.run.write_json(SUMMARY, summary)
        return summary

    def failed(self, told: e.RunFailed, error: Exception) -> None:
        """Write down as much of a failure as can be written: the store may be what failed."""
        for write in (
            lambda: self._traceback(error) if told.error == "error" else None,
            lambda: self.summarise("failed"),
            lambda: self.say(told),
        ):
            try:
                write()
            except (KdError, OSError) as refused:
                log.error("could not write down the failure: %s", refused)

    def _traceback(self, error: Exception) -> None:
        text = "".join(traceback.format_exception(error))
        self.run.write("failure.txt", lambda path: path.write_text(text, encoding="utf-8"))


def _temperature(document: dict[str, Any]) -> float | None:
    """The temperature of the last stage that has one."""
    for stage in reversed(document["stages"]):
        for method in stage.get("methods", ()):
            if isinstance(method.get("temperature"), (int, float)):
                return float(method["temperature"])
    return None
