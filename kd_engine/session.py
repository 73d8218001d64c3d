"""A run in motion: a generator of events. Iterate it and it moves; stop iterating and it stands still.

`_live` is a run, read from top to bottom. Commands are obeyed in `_between_steps` and nowhere else.
Whatever is random in a step depends on the seed and the step's number alone, so that a run that was paused,
probed, killed and resumed ends with the same weights, bit for bit, as one that was left alone.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from kd_engine import card, catalog, checkpoint, evaluate, weights
from kd_engine import events as e
from kd_engine.backend import Backend, seeded
from kd_engine.checkpoint import Checkpoint, Progress
from kd_engine.classroom import Classroom, deep_problems, require
from kd_engine.commands import AskProbe, Command, Continue, Pause, SetKnob, StepOnce, Stop
from kd_engine.data import labelled_plan, plan
from kd_engine.errors import KdError, StoreError
from kd_engine.events import STUDENT, Event
from kd_engine.failures import cause_of_nan, explain
from kd_engine.final import final_figures
from kd_engine.gallery import Gallery, keep
from kd_engine.optim import rate_factor
from kd_engine.recipe import Recipe, get_at, live_knobs, set_at
from kd_engine.snapshots import SAMPLES, name_of
from kd_engine.store import BEST, ENVIRONMENT, LAST, RESUME, SUMMARY, RunFolder, Store
from kd_engine.teacher import LiveTeacher
from kd_engine.trainee import Report, Trainee

REPORT_S = 0.05  # a report waits for the device once, so there are at most twenty a second
CHECKPOINT_S = 30.0  # within long epochs; the end of an epoch always makes one

log = logging.getLogger("kd_engine")
Events = Iterator[Event]


class _Stopped(Exception):
    def __init__(self, keep: bool) -> None:
        self.keep = keep


class Session:
    """One run, from its first event to its last.

    Give it a recipe to start a new run in the folder `runs` (default: the user's), or use `Session.resume`.
    `changes`: live changes to make again, as (step, path, value). What goes wrong is told by a RunFailed
    event, not raised.
    """

    def __init__(
        self, recipe: Recipe, runs: Path | str | None = None, *, changes: Iterable[tuple[int, str, Any]] = ()
    ) -> None:
        self._store = Store(runs)
        self._recipe = recipe
        self._document = recipe.document()  # with the live values in force
        self._changes = deque(sorted(changes, key=lambda change: change[0]))
        self._saved: Checkpoint | None = None  # what to go on from
        self._at = Progress()
        self._images = 0
        self.run: RunFolder | None = None
        self._mail: deque[Command] = deque()
        self._bell = threading.Condition()
        self._paused = False
        self._sick = False  # a loss is no number: going on means going back to the last checkpoint
        self._countdown: int | None = None  # steps until the next pause
        self._students: list[Trainee] = []
        self.idle: Callable[[], None] = lambda: None  # called now and then while paused
        self._start_clock()
        self._stream = self._live()

    @classmethod
    def resume(cls, run: str | Path, runs: Path | str | None = None) -> Session:
        """Go on with a stored run from its last checkpoint. StoreError when it cannot be resumed."""
        folder = Store(runs).open(run)
        folder.recipe()  # refuses what a newer version made
        if folder.status() == "done":
            raise StoreError(f"{folder.name}: this run is complete.", "Look at it, or run its recipe anew.")
        saved = checkpoint.load(folder)
        folder.lock()
        changes = checkpoint.changes_after(folder, saved)
        session = cls(Recipe.from_document(saved.recipe), folder.folder.parent, changes=changes)
        session.run, session._saved, session._at = folder, saved, saved.progress
        return session

    @classmethod
    def repeat(cls, run: str | Path, runs: Path | str | None = None) -> Session:
        """A new run of a stored run's recipe, with the live changes made to it, at the same steps."""
        folder = Store(runs).open(run)
        changes = [(c.step, c.path, c.new) for c in folder.events() if isinstance(c, e.KnobChanged)]
        return cls(Recipe.from_document(folder.recipe()), runs, changes=changes)

    def send(self, command: Command) -> None:
        """Ask for something, from any thread; carried out between two steps and answered by an event."""
        with self._bell:
            self._mail.append(command)
            self._bell.notify()

    def __iter__(self) -> Events:
        return self._stream

    # -- the run, from top to bottom -----------------------------------------------------------------------

    def _live(self) -> Events:
        try:
            yield self._open()
            yield from self._prepare()
            for stage in range(self._at.stage, len(self._recipe.stages)):
                yield from self._stage(stage)
            yield from self._between_steps()
            yield from self._finish()
        except _Stopped as stopped:
            yield from self._stop(stopped.keep)
        except Exception as error:
            yield self._failed(error)
        finally:
            for student in self._students:
                student.close()
            if self.run is not None:
                self.run.close()

    def _open(self) -> Event:
        environment = Backend(self._recipe.hardware).environment()
        resumed = self.run is not None
        run = self.run = self.run or self._store.create(self._document)
        run.write_json(ENVIRONMENT, environment)
        self._summarise("interrupted")  # what is true if nobody writes another word
        if resumed:
            return self._say(self._resumed(environment))
        told = e.RunStarted(
            run=run.name, folder=str(run.folder), recipe=self._document, environment=environment
        )
        return self._say(told)

    def _prepare(self) -> Events:
        yield self._say(e.Preparing(what="data", detail=self._recipe.data.dataset))
        self._room = room = Classroom(self._recipe, self._store.root)
        for note in room.data.notes:
            yield self._say(e.Notice(level="info", code="data", message=note))
        yield from self._stop_if_asked()
        if self._recipe.teacher is not None:
            yield self._say(e.Preparing(what="teacher", detail=self._recipe.teacher.model))
        self._teacher = room.teacher()
        yield self._say(e.Preparing(what="student", detail=self._recipe.student.model))
        self._student = room.student()
        for note in room.notes:
            yield self._notice("model", note)
        require(deep_problems(room, self._student, self._teacher))
        yield from self._stop_if_asked()
        self._gallery = Gallery(room, self._teacher, self._student)
        if self._teacher is not None:
            yield from self._meet(self._teacher)
        if self._saved is not None and self._saved.threads != torch.get_num_threads():
            yield self._notice(
                "threads",
                f"Started with {self._saved.threads} CPU threads, going on with {torch.get_num_threads()}: "
                "the last bits of the numbers may differ.",
            )

    def _meet(self, teacher: LiveTeacher) -> Events:
        """Measure the teacher on the validation part, once."""
        assert self._recipe.teacher is not None
        top1 = None
        self._teacher_answers = None
        if len(self._room.data.validation):
            yield self._say(e.Preparing(what="teacher_answers"))
            batches = self._room.batches("validation")
            self._teacher_answers = evaluate.predict(teacher.module, batches, self._room.backend)
            top1 = float((self._teacher_answers.argmax(-1) == batches.subset.labels).mean())
        parameters = evaluate.cost(teacher.module, self._room.data.size)["parameters"]
        yield self._say(e.TeacherReady(model=self._recipe.teacher.model, parameters=parameters, top1=top1))

    def _stage(self, number: int) -> Events:
        stage = self._recipe.stages[number]
        data = self._room.data
        self._students = self._room.trainees(number, self._student, self._teacher)
        if self._saved is not None:
            self._restore(self._saved)
            self._saved = None
        else:
            self._at.stage, self._at.epoch, self._at.batch = number, 0, 0
        self._apply_knobs()
        steps = len(plan(len(data.train), stage.batch_size, 0, 0))
        yield self._say(
            e.StageStarted(
                stage=number,
                kind=stage.stage,
                epochs=stage.epochs,
                steps_per_epoch=steps,
                students=[student.name for student in self._students],
                model=self._recipe.student.model,
                parameters=evaluate.cost(self._students[0].module, data.size)["parameters"],
                classes=list(data.classes),
            )
        )
        if stage.more.get("snapshots"):
            yield from self._first_pictures()
        if self._at.epoch == 0 and self._at.batch == 0:
            yield from self._checkpoint()
        self._start_clock()
        self._saved_at = time.monotonic()
        while self._at.epoch < stage.epochs:
            yield from self._epoch(number, steps)
        self._student.module.load_state_dict(self._students[0].module.state_dict())
        for student in self._students[: None if number + 1 < len(self._recipe.stages) else 0]:
            student.close()

    def _epoch(self, number: int, steps: int) -> Events:
        stage, data, epoch = self._recipe.stages[number], self._room.data, self._at.epoch
        total, first = stage.epochs * steps, self._at.batch
        train, seed = self._room.batches("train"), self._recipe.seed
        draws = plan(len(data.train), stage.batch_size, epoch, seed, data.views)
        fair = (
            labelled_plan(data.labelled, steps, stage.batch_size, epoch, seed, data.views)
            if self._apart()
            else []
        )
        with closing(train.stream(draws[first:])) as batches, closing(train.stream(fair[first:])) as labelled:
            for done in range(first, steps):
                yield from self._between_steps()
                if self._at.batch != done or self._at.epoch != epoch:
                    return  # gone back to the last checkpoint, after a loss that was no number
                rate = rate_factor(stage.schedule, epoch * steps + done, total, steps)
                self._step(rate, next(batches)[1:], next(labelled)[1:] if fair else None)
                if time.perf_counter() - self._clock >= REPORT_S:
                    yield from self._report()
                if not self._sick and done + 1 < steps and time.monotonic() - self._saved_at > CHECKPOINT_S:
                    yield from self._checkpoint()
        yield from self._report()
        if self._sick:
            yield from self._between_steps()
        else:
            yield from self._end_epoch()

    def _step(
        self,
        rate: float,
        batch: tuple[torch.Tensor, torch.Tensor],
        labelled: tuple[torch.Tensor, torch.Tensor] | None,
    ) -> None:
        """One optimizer step of every student, on one pass of the teacher. labelled: the batch of those who
        learn from labels alone, where some labels are withheld."""
        lay_out = self._room.backend.lay_out
        lr = rate * float(get_at(self._document, f"stages.{self._at.stage}.optimizer.lr"))
        inputs, target = lay_out(batch[0]), batch[1]
        teacher = None
        if self._teacher is not None and any(student.lesson.needs_teacher for student in self._students):
            teacher = self._teacher.signals(inputs)
        for student in self._students:
            with seeded(self._recipe.seed, "step", self._at.step):
                if student.learner.labels_only and labelled is not None:
                    student.learn(self._at.step, lr, lay_out(labelled[0]), None, labelled[1])
                else:
                    student.learn(self._at.step, lr, inputs, teacher, target)
        self._at.batch += 1
        self._at.step += 1
        self._images += len(target)
        if self._countdown is not None:
            self._countdown -= 1

    def _end_epoch(self) -> Events:
        stage = self._recipe.stages[self._at.stage]
        self._at.epoch += 1
        self._at.batch = 0
        for student in self._students:
            validation = self._validate(student)
            top1 = validation.get(
                "top1", float(self._at.epoch)
            )  # without a validation part the last is the best
            best = student.best is None or top1 > student.best[0]
            if best:
                student.best = (top1, self._at.epoch)
            if best and student.name == STUDENT:
                self._save_weights(BEST, student)
            train = {"loss": student.epoch.loss}
            if student.epoch.top1 is not None:
                train["top1"] = student.epoch.top1
            yield self._say(
                e.EpochDone(
                    stage=self._at.stage,
                    epoch=self._at.epoch,
                    step=self._at.step,
                    student=student.name,
                    train=train,
                    validation=validation,
                    best=best,
                    seconds=self._at.seconds,
                )
            )
            student.epoch = Report()
        if stage.more.get("snapshots"):
            yield self._snapshot()
        yield from self._checkpoint()
        self._start_clock()

    def _finish(self) -> Events:
        assert self.run is not None
        yield self._say(e.Preparing(what="evaluate"))
        evaluated, summary = final_figures(self._room, self._teacher, self._students, self.run)
        for event in evaluated:
            yield self._say(event)
        summary = self._summarise("done", summary)
        self.run.path(RESUME).unlink(missing_ok=True)
        yield self._say(e.RunDone(run=self.run.name, summary=summary))

    # -- between two steps ---------------------------------------------------------------------------------

    def _between_steps(self) -> Events:
        """Obey what was asked; while paused, wait for more. Returns when the next step may be made."""
        while self._changes and self._changes[0][0] <= self._at.step:
            _, path, value = self._changes.popleft()
            yield self._set_knob(SetKnob(path, value))
        if self._countdown is not None and self._countdown <= 0:
            self._countdown = None
            yield from self._pause("step")
        while self._mail or self._paused:
            command = self._next_mail()
            if command is not None:
                yield from self._obey(command)

    def _next_mail(self) -> Command | None:
        with self._bell:
            if not self._mail:
                self._bell.wait(timeout=0.1)
            if self._mail:
                return self._mail.popleft()
        self.idle()
        return None

    def _obey(self, command: Command) -> Events:
        if isinstance(command, Stop):
            raise _Stopped(command.keep)
        if isinstance(command, SetKnob):
            yield self._set_knob(command)
        elif isinstance(command, AskProbe):
            yield self._probe(command)
        elif isinstance(command, Pause):
            yield from self._pause("asked")
        elif isinstance(command, (Continue, StepOnce)):
            yield from self._go_on(command)

    def _pause(self, why: str) -> Events:
        if not self._paused:
            if not self._sick:
                yield from self._report()
            self._paused = True
            yield self._say(e.Paused(step=self._at.step, why=why))

    def _go_on(self, command: Continue | StepOnce) -> Events:
        if self._sick:
            yield from self._go_back()
        if isinstance(command, StepOnce):
            self._countdown = 1 if command.unit == "batch" else self._steps_left_in_epoch()
        if self._paused:
            self._paused = False
            yield self._say(e.Continued(step=self._at.step))
        self._start_clock()

    def _set_knob(self, command: SetKnob) -> Event:
        found = {live.path: live.knob for live in live_knobs(self._document, catalog.load())}
        if command.path not in found:
            return self._refuse(command, command.path, "not a setting that can change while a run is live")
        if (why := found[command.path].problem(command.value)) is not None:
            return self._refuse(command, command.path, why)
        old = get_at(self._document, command.path)
        set_at(self._document, command.path, command.value)
        self._apply_knobs()
        return self._say(e.KnobChanged(step=self._at.step, path=command.path, old=old, new=command.value))

    def _probe(self, command: AskProbe) -> Event:
        assert self.run is not None
        student = self._students[0]
        try:
            arrays, numbers = self._gallery.probe(command, student.module, student.taps)
        except KdError as error:
            return self._refuse(command, command.id, str(error))
        at = self._at
        name = f"probes/{command.probe}_{command.part}_{command.sample}_{command.tap}_{at.step}.npz"
        path = keep(self.run, name, arrays)
        return self._say(
            e.ProbeReady(
                id=command.id,
                probe=command.probe,
                sample=command.sample,
                tap=command.tap,
                step=at.step,
                epoch=at.epoch,
                path=path,
                numbers=numbers,
            )
        )

    # -- reports and files ---------------------------------------------------------------------------------

    def _report(self) -> Events:
        """What happened since the last report, for every student; a loss that is no number pauses the run."""
        took = time.perf_counter() - self._clock
        reports = [(student, student.report()) for student in self._students]
        self._at.seconds += took
        images, self._images = self._images, 0
        for student, report in reports:
            if report.steps:
                yield self._say(self._step_done(student, report, images / max(took, 1e-9)))
        sick = next(((student, report) for student, report in reports if report.bad is not None), None)
        if sick is not None and not self._sick:
            yield from self._fall_sick(*sick)
        self._start_clock()

    def _step_done(self, student: Trainee, report: Report, samples_per_s: float) -> Event:
        return e.StepDone(
            stage=self._at.stage,
            epoch=self._at.epoch,
            step=self._at.step,
            student=student.name,
            loss=report.loss,
            terms=report.terms,
            weighted=report.weighted,
            lr=student.lr,
            samples_per_s=samples_per_s,
        )

    def _fall_sick(self, student: Trainee, report: Report) -> Events:
        """Pause, and say at which step, in which loss, and the likely cause. The last checkpoint stays as
        it is."""
        self._sick = True
        cause = cause_of_nan(report.bad_terms, student.lr)
        assert report.bad is not None
        step = report.bad + 1
        values = {"step": step, "student": student.name, "terms": list(report.bad_terms), "lr": student.lr}
        message = f"The loss of '{student.name}' became no number (NaN or infinite) at step {step}: {cause}."
        yield self._say(e.Notice(level="error", code="nan", message=message, values=values))
        self._countdown = None
        yield from self._pause("nan")

    def _go_back(self) -> Events:
        """Take the last good weights again; what was changed by hand meanwhile stays changed."""
        assert self.run is not None
        saved = checkpoint.load(self.run)
        changed = [
            (live.path, live.value)
            for live in live_knobs(self._document, catalog.load())
            if get_at(saved.recipe, live.path) != live.value
        ]
        self._at = saved.progress
        self._document = saved.recipe
        self._restore(saved)
        self._sick = False
        yield self._say(self._resumed(self._room.backend.environment()))
        for path, value in changed:
            yield self._set_knob(SetKnob(path, value))
        yield from self._checkpoint()

    def _checkpoint(self) -> Events:
        assert self.run is not None
        yield from self._report()
        if self._sick:
            return
        students = {student.name: student.state() for student in self._students}
        content = Checkpoint(self._at, self._document, students, torch.get_num_threads())
        path, took = checkpoint.save(self.run, content)
        self._save_weights(LAST, self._students[0])
        self._saved_at = time.monotonic()
        at = self._at
        yield self._say(
            e.CheckpointSaved(
                stage=at.stage,
                epoch=at.epoch,
                step=at.step,
                path=str(path),
                bytes=path.stat().st_size,
                ms=took,
            )
        )

    def _restore(self, saved: Checkpoint) -> None:
        for student in self._students:
            student.restore(saved.students[student.name])
        self._apply_knobs()

    def _save_weights(self, name: str, student: Trainee) -> None:
        assert self.run is not None
        made = card.make(
            self._recipe.student,
            self._room.data,
            name=self._recipe.name,
            run=self.run.name,
            step=self._at.step,
        )
        weights.save_state(self.run.path(name), student.module.state_dict(), card.to_metadata(made))

    def _first_pictures(self) -> Events:
        assert self.run is not None
        if not self.run.path(SAMPLES).exists():
            keep(self.run, SAMPLES, self._gallery.samples())
        yield self._say(e.SamplesReady(path=str(self.run.path(SAMPLES)), part=self._gallery.part))
        if self._at.step == 0:
            yield self._snapshot()

    def _snapshot(self) -> Event:
        assert self.run is not None
        student = self._students[0]
        epoch = self._epochs_before() + self._at.epoch
        path = keep(self.run, name_of(epoch), self._gallery.snapshot(student.module, student.taps, epoch))
        return self._say(e.SnapshotSaved(stage=self._at.stage, epoch=epoch, step=self._at.step, path=path))

    def _validate(self, student: Trainee) -> dict[str, float]:
        """Plain numbers on the validation part, against the teacher too; empty without one."""
        if not len(self._room.data.validation):
            return {}
        batches = self._room.batches("validation")
        logits = evaluate.predict(student.module, batches, self._room.backend)
        figures = self._room.task.metrics(logits, batches.subset.labels)
        told = {"top1": float(figures["top1"]), "loss": float(figures["nll"])}
        if self._teacher is not None and self._teacher_answers is not None:
            close = evaluate.against_teacher(logits, self._teacher_answers, batches.subset.labels)
            told |= {"agreement": close["agreement"], "kl": close["kl"]}
        return told

    # -- how a run ends before its end ---------------------------------------------------------------------

    def _stop(self, keep: bool) -> Events:
        assert self.run is not None
        if not keep:
            self.run.delete()
            yield e.RunStopped(run=self.run.name, step=self._at.step, kept=False)
            return
        if self._students and not self._sick:
            yield from self._checkpoint()
        self._summarise("stopped")
        yield self._say(e.RunStopped(run=self.run.name, step=self._at.step, kept=True))

    def _stop_if_asked(self) -> Events:
        """While preparing nothing can be obeyed but a wish to stop; the rest waits for the first step."""
        yield from ()
        for command in list(self._mail):
            if isinstance(command, Stop):
                raise _Stopped(command.keep)

    def _failed(self, error: Exception) -> Event:
        """The event that tells of it. The store may be what failed, so nothing here relies on it."""
        stage = self._recipe.stages[min(self._at.stage, len(self._recipe.stages) - 1)]
        code, message, hint = explain(error, stage.batch_size)
        log.error("run failed", exc_info=error)
        name = self.run.name if self.run is not None else ""
        resumable = self.run is not None and self.run.path(RESUME).is_file()
        told = e.RunFailed(
            run=name, error=code, message=message, hint=hint, step=self._at.step, resumable=resumable
        )
        if self.run is not None:
            try:
                if code == "error":
                    text = "".join(traceback.format_exception(error))
                    self.run.write("failure.txt", lambda path: path.write_text(text, encoding="utf-8"))
                self._summarise("failed")
                self._say(told)
            except StoreError as refused:
                log.error("could not write down the failure: %s", refused)
        return told

    # -- small things --------------------------------------------------------------------------------------

    def _say(self, event: Event) -> Event:
        assert self.run is not None
        self.run.append(event)
        return event

    def _resumed(self, environment: dict[str, Any]) -> Event:
        assert self.run is not None
        return e.RunResumed(
            run=self.run.name,
            folder=str(self.run.folder),
            recipe=self._document,
            environment=environment,
            stage=self._at.stage,
            epoch=self._at.epoch,
            step=self._at.step,
        )

    def _notice(self, code: str, message: str) -> Event:
        return self._say(e.Notice(level="warning", code=code, message=message))

    def _refuse(self, command: Command, path: str, why: str) -> Event:
        return self._say(e.Refused(command=type(command).__name__, path=path, why=why))

    def _summarise(self, status: str, figures: dict[str, Any] | None = None) -> dict[str, Any]:
        assert self.run is not None
        best = {student.name: student.best for student in self._students if student.best}
        known = {
            "status": status,
            "run": self.run.name,
            "name": self._recipe.name,
            "epochs": self._epochs_before() + self._at.epoch,
            "seconds": self._at.seconds,
            "temperature": _temperature(self._document),
            "best_validation": {name: {"top1": top1, "epoch": epoch} for name, (top1, epoch) in best.items()},
        }
        summary = {**known, **(figures or {})}
        self.run.write_json(SUMMARY, summary)
        return summary

    def _apply_knobs(self) -> None:
        for student in self._students:
            student.set_knobs(self._document)

    def _apart(self) -> bool:
        """Whether some student learns from batches of its own: from labels alone where some are withheld."""
        return any(s.learner.labels_only for s in self._students) and not self._room.data.labelled.all()

    def _epochs_before(self) -> int:
        return sum(stage.epochs for stage in self._recipe.stages[: self._at.stage])

    def _steps_left_in_epoch(self) -> int:
        stage = self._recipe.stages[self._at.stage]
        return len(plan(len(self._room.data.train), stage.batch_size, 0, 0)) - self._at.batch

    def _start_clock(self) -> None:
        self._clock: float = time.perf_counter()
        self._images = 0


def _temperature(document: dict[str, Any]) -> float | None:
    """The temperature of the last stage that has one."""
    for stage in reversed(document["stages"]):
        for method in stage.get("methods", ()):
            if "temperature" in method:
                return float(method["temperature"])
    return None
