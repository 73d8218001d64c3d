"""A run in motion: a generator of events. Iterate it and it moves; stop iterating and it stands still.

`_course` is a run, read from top to bottom. Commands are obeyed between two steps (kd_engine.steering), what
happened is written down before it is told (kd_engine.journal). Whatever is random in a step depends on the
seed and the step's number alone, so that a run that was paused, probed, killed and resumed ends with the same
weights, bit for bit, as one that was left alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import torch

from kd_engine import checkpoint, graft, thread_count
from kd_engine import events as e
from kd_engine.backend import Backend, set_threads, undisturbing
from kd_engine.checkpoint import Change, Checkpoint
from kd_engine.classroom import Alumnus, Classroom
from kd_engine.commands import Command
from kd_engine.data import plan
from kd_engine.errors import StoreError
from kd_engine.events import Event
from kd_engine.failures import explain
from kd_engine.final import final_figures
from kd_engine.fitting import deep_problems, require
from kd_engine.gallery import Gallery
from kd_engine.journal import Journal
from kd_engine.lockstep import Lockstep
from kd_engine.models import count_parameters
from kd_engine.optim import rate_factor
from kd_engine.recipe import Recipe
from kd_engine.schedules import Clock
from kd_engine.side_by_side import SideBySide, companions
from kd_engine.standing import Standing
from kd_engine.steering import Mailbox, Steering, Stopped
from kd_engine.store import ENVIRONMENT, RESUME, RunFolder, Store, assistant_file
from kd_engine.teacher import LiveTeacher
from kd_engine.trainee import Tally
from kd_engine.validation import Validation

CHECKPOINT_S = 30.0  # within long epochs; the end of an epoch always makes one

log = logging.getLogger("kd_engine")
Events = Generator[Event, None, None]


class Session:
    """One run, from its first event to its last.

    Give it a recipe to start a new run in the folder `runs` (default: the user's), or use `Session.resume`.
    `changes`: live changes to make again, as (step, path, value). What goes wrong is told by a RunFailed
    event, not raised.
    """

    def __init__(
        self, recipe: Recipe, runs: Path | str | None = None, *, changes: Iterable[Change] = ()
    ) -> None:
        self.run: RunFolder | None = None
        self.idle: Callable[[], None] = lambda: None  # called now and then while paused
        self._store = Store(runs)
        self._now = Standing(recipe, recipe.document())
        self._changes = sorted(changes, key=lambda change: change[0])
        self._saved: Checkpoint | None = None  # what to go on from
        self._threads: int | None = None  # of the CPU that the same bits take, where that is known
        self._teacher: LiveTeacher | None = None  # the recipe's
        self._taught_by: LiveTeacher | None = None  # of the stage that is going
        self._before: dict[str, Alumnus] = {}  # the students of the last stage, by name
        self._beside = SideBySide()  # of the stage that is going
        self._mail = Mailbox()
        self._open_things = ExitStack()  # to be closed when the run ends, however it ends
        self._stream = undisturbing(self._live())

    @classmethod
    def resume(cls, run: str | Path, runs: Path | str | None = None) -> Session:
        """Go on with a stored run from its last checkpoint; one that was ended before its first begins anew.

        StoreError when it cannot be resumed.
        """
        folder = Store(runs).open(run)
        document = folder.recipe()  # refuses what a newer version made
        if folder.status() == "done" and not folder.path(RESUME).exists():
            raise StoreError(f"{folder.name}: this run is complete.", "Look at it, or run its recipe anew.")
        folder.lock()
        try:
            saved = checkpoint.load(folder) if folder.path(RESUME).exists() else None
            recipe = Recipe.from_document(saved.recipe if saved else document)
            changes = checkpoint.changes_after(folder, saved.progress.step if saved else 0)
        except BaseException:
            folder.close()
            raise
        session = cls(recipe, folder.folder.parent, changes=changes)
        session.run, session._saved = folder, saved
        if saved is not None:
            session._now.at, session._threads = saved.progress, saved.threads
        return session

    @classmethod
    def repeat(cls, run: str | Path, runs: Path | str | None = None) -> Session:
        """A new run of a stored run's recipe, with the live changes made to it, at the same steps."""
        folder = Store(runs).open(run)
        changes = [(c.step, c.path, c.new) for c in folder.events() if isinstance(c, e.KnobChanged)]
        session = cls(Recipe.from_document(folder.recipe()), runs, changes=changes)
        session._threads = thread_count.of_run(folder)
        return session

    def send(self, command: Command) -> None:
        """Ask for something, from any thread; carried out between two steps and answered by an event."""
        self._mail.send(command)

    def __iter__(self) -> Events:
        return self._stream

    def _live(self) -> Events:
        """The run, and how it ends when it ends before its end."""
        try:
            try:
                yield from self._course()
            except Stopped as stopped:
                yield from self._stop(stopped.keep)
        except Exception as error:
            yield self._failed(error)
        finally:
            self._open_things.close()
            self._beside.close()
            self._now.dismiss()
            for teacher in (self._teacher, self._taught_by):
                if teacher is not None:
                    teacher.close()
            if self.run is not None:
                self.run.close()

    # -- the run, from top to bottom -----------------------------------------------------------------------

    def _course(self) -> Events:
        yield self._open()
        yield from self._prepare()
        for stage in range(self._now.at.stage, len(self._now.recipe.stages)):
            yield from self._stage(stage)
        yield from self._steering.between_steps()
        yield from self._finish()

    def _open(self) -> Event:
        backend = Backend(self._now.recipe.hardware)
        if self._now.recipe.hardware.threads is None:
            thread_count.honour(self._threads)
        environment = backend.environment()
        resumed = self.run is not None
        run = self.run = self.run or self._store.create(self._now.document)
        self._journal = Journal(run, self._now)
        self._open_things.callback(self._journal.close)
        run.write_json(ENVIRONMENT, environment)
        self._journal.summarise("interrupted")  # what is true if nobody writes another word
        if resumed:
            return self._journal.resumed(environment)
        folder, recipe = str(run.folder), self._now.document
        return self._say(e.RunStarted(run=run.name, folder=folder, recipe=recipe, environment=environment))

    def _prepare(self) -> Events:
        recipe = self._now.recipe
        yield self._say(e.Preparing(what="data", detail=recipe.data.dataset))
        self._room = room = Classroom(recipe, self._store.root)
        for note in room.data.notes:
            yield self._journal.notice("info", "data", note)
        self._mail.stop_if_asked()
        if recipe.teacher is not None:
            yield self._say(e.Preparing(what="teacher", detail=recipe.teacher.model))
        self._teacher = room.teacher()
        yield self._say(e.Preparing(what="student", detail=recipe.student.model))
        self._student = room.student(self._now.at.stage)
        for note in room.notes:
            yield self._journal.notice("warning", "model", note)
        require(deep_problems(room, self._student, self._teacher))
        self._mail.stop_if_asked()
        yield from self._settle_threads()  # before anybody says anything
        if self._teacher is not None and len(room.data.validation):
            yield self._say(e.Preparing(what="teacher_answers"))
        self._validation = Validation(room, self._teacher)
        if recipe.teacher is not None and self._teacher is not None:
            size, top1 = count_parameters(self._teacher.module), self._validation.teacher_top1
            yield self._say(e.TeacherReady(model=recipe.teacher.model, parameters=size, top1=top1))
        if self._saved is not None and self._saved.data not in ("", room.data.fingerprint):
            yield self._journal.notice(
                "warning",
                "data",
                "The data are not those that this run began with: images were changed or added.",
            )
        self._gallery = Gallery(room, self._teacher, self._student)
        self._steering = Steering(
            self._mail, self._changes, self.idle, self._now, room, self._gallery, self._journal
        )

    def _settle_threads(self) -> Events:
        """As many CPU threads as the same bits take; where nobody says how many, as many as are fastest."""
        assert self.run is not None
        now = torch.get_num_threads()
        if self._threads is not None:
            if self._threads != now:
                began = f"Started with {self._threads} CPU threads, going on with {now}"
                may = "the last bits of the numbers may differ"
                yield self._journal.notice("warning", "threads", f"{began}: {may}.", threads=now)
            return
        at_once = max(len(self._companions(stage)) for stage in range(len(self._now.recipe.stages)))
        if (choice := thread_count.choose(self._room, self._student, max(1, at_once))) is not None:
            set_threads(choice.total)
            self.run.write_json(ENVIRONMENT, self._room.backend.environment())
            yield self._journal.notice("info", "threads", str(choice), **choice.values)

    def _stage(self, number: int) -> Events:
        now, stage, room = self._now, self._now.recipe.stages[number], self._room
        now.dismiss()
        if number and self._saved is None and room.begins_anew(number):
            self._student = room.student(number)
        yield from self._invite(number)
        now.students = room.trainees(number, self._student, self._taught_by, self._before)
        self._beside.close()
        self._beside = SideBySide(self._companions(number), torch.get_num_threads())
        yield from self._notes()
        if self._saved is not None:
            now.restore(self._saved)
            self._saved = None
            self._journal.keep_weights(room)
        else:
            now.at.stage, now.at.epoch, now.at.batch = number, 0, 0
            now.apply_knobs()
        steps = len(plan(len(room.data.train), stage.batch_size, 0, 0))
        yield self._say(
            e.StageStarted(
                stage=number,
                kind=stage.stage,
                epochs=stage.epochs,
                steps_per_epoch=steps,
                students=[student.name for student in now.students],
                model=room.section(number).model,
                parameters=count_parameters(now.students[0].module),
                classes=list(room.data.classes),
            )
        )
        if stage.more.get("snapshots"):
            yield self._journal.samples(self._gallery, self._validation.teacher)
            if now.at.step == 0:
                yield self._journal.snapshot(self._gallery)
        if now.at.epoch == 0 and now.at.batch == 0:
            yield from self._checkpoint()
        self._saved_at = time.monotonic()
        self._journal.start_clock()
        while now.at.epoch < stage.epochs:
            yield from self._epoch(steps)
        yield from self._steering.checkpointed()
        self._before = {student.name: Alumnus.of(student) for student in now.students}
        if not graft.described(now.students[0].module):  # else this stage is the last
            self._student.module.load_state_dict(now.students[0].module.state_dict())
        if self._teaches_next(number):
            self._journal.keep_assistant(room, number)

    def _companions(self, number: int) -> list[str]:
        """Those students of a stage who can learn at the same time."""
        room = self._room
        return companions(room.learners(number), self._student.module, room.data.size, room.backend)

    def _invite(self, number: int) -> Events:
        """The teacher of a stage: the recipe's, or the student of the stage before."""
        if self._taught_by is not None and self._taught_by is not self._teacher:
            self._taught_by.close()
        self._taught_by = self._teacher
        if number and self._teaches_next(number - 1):
            assert self.run is not None
            weights = self.run.path(assistant_file(number - 1))
            self._taught_by = self._room.assistant(number - 1, weights)
            if self._teacher is None:
                self._validation = Validation(self._room, self._taught_by)
            model, size = self._room.section(number - 1).model, count_parameters(self._taught_by.module)
            yield self._say(e.TeacherReady(model=model, parameters=size, top1=None))

    def _notes(self) -> Events:
        """What the user should hear of the answers that are kept, and of steps that cannot be recorded."""
        for note in self._taught_by.take_notes() if self._taught_by is not None else ():
            yield self._journal.notice(note.level, "cache", note.message, **note.values)
        for student in self._now.students:
            if (why := student.why_not_recorded()) is not None:
                told = f"The steps of '{student.name}' are launched kernel by kernel: {why}."
                yield self._journal.notice("info", "graph", told, student=student.name)

    def _teaches_next(self, number: int) -> bool:
        """Whether the student of a stage is the teacher of the next."""
        after = self._now.recipe.stages[number + 1 : number + 2]
        return bool(after) and after[0].more.get("taught_by") == "previous"

    def _epoch(self, steps: int) -> Events:
        now, stage = self._now, self._now.stage
        epoch, first = now.at.epoch, now.at.batch
        lockstep = Lockstep(now, self._room, self._taught_by, self._beside)
        with closing(lockstep.batches(steps)) as batches:
            for done in range(first, steps):
                yield from self._steering.between_steps()
                if now.at.batch != done or now.at.epoch != epoch:
                    return  # gone back to the last checkpoint, after a loss that was no number
                rate = rate_factor(stage.schedule, epoch * steps + done, stage.epochs * steps, steps)
                clock = Clock(epoch + (done + 1) / steps, (epoch * steps + done + 1) / (stage.epochs * steps))
                batch, labelled = next(batches)
                lockstep.step(rate, clock, batch, labelled)
                self._journal.images += len(batch.target)
                self._steering.step_made()
                if self._journal.due():
                    yield from self._steering.report()
                if done + 1 < steps and time.monotonic() - self._saved_at > CHECKPOINT_S:
                    yield from self._checkpoint()
        yield from self._steering.report()
        if now.sick:
            yield from self._steering.between_steps()
        else:
            yield from self._end_epoch()

    def _end_epoch(self) -> Events:
        now, stage = self._now, self._now.stage
        yield from self._steering.checkpointed()
        now.at.epoch += 1
        now.at.batch = 0
        figures = {student.name: partial(self._validation.figures, student) for student in now.students}
        measured = self._beside.do(figures)
        for student in now.students:
            validation = measured[student.name]
            train = {"loss": student.epoch.loss}
            if student.epoch.top1 is not None:
                train["top1"] = student.epoch.top1
            yield self._say(
                e.EpochDone(
                    stage=now.at.stage,
                    epoch=now.at.epoch,
                    step=now.at.step,
                    student=student.name,
                    train=train,
                    validation=validation,
                    best=student.improved(validation.get("top1"), now.at.epoch),
                    seconds=now.at.seconds,
                )
            )
            student.epoch = Tally()
        yield from self._notes()
        if stage.more.get("snapshots"):
            yield self._journal.snapshot(self._gallery, self._validation.said.get(e.STUDENT))
        yield from self._checkpoint()
        self._journal.start_clock()

    def _checkpoint(self) -> Events:
        yield from self._steering.checkpoint()
        self._saved_at = time.monotonic()

    def _finish(self) -> Events:
        assert self.run is not None
        yield self._say(e.Preparing(what="evaluate"))
        figures = yield from final_figures(
            self._room,
            self._teacher or self._taught_by,
            self._now.students,
            self.run,
            self._say_unless_stopped,
        )
        self._mail.stop_if_asked()
        yield from self._steering.refuse_rest()
        summary = self._journal.summarise("done", figures)
        done = self._say(e.RunDone(run=self.run.name, summary=summary))
        self.run.remove(RESUME)  # last: until then a resume can finish what a kill left undone
        yield done

    # -- how a run ends before its end ---------------------------------------------------------------------

    def _stop(self, keep: bool) -> Events:
        assert self.run is not None
        now, run = self._now, self.run
        if not keep:
            run.delete()
            yield e.RunStopped(run=run.name, step=now.at.step, kept=False)
            return
        if now.students and not now.sick:
            yield from self._checkpoint()
            yield from self._steering.checkpointed()
        self._journal.summarise("stopped")
        yield self._say(e.RunStopped(run=run.name, step=now.at.step, kept=True))

    def _failed(self, error: Exception) -> Event:
        """The event that tells of it."""
        self._open_things.close()  # a checkpoint may be on its way to the disk
        run = self.run
        code, message, hint = explain(error, self._now.stage.batch_size)
        log.error("run failed: %s", message, exc_info=error if code == "error" else None)
        resumable = run is not None and run.path(RESUME).is_file()
        told = e.RunFailed(
            run=run.name if run is not None else "",
            error=code,
            message=message,
            hint=hint,
            step=self._now.at.step,
            resumable=resumable,
        )
        if run is not None:
            Journal(run, self._now).failed(told, error)
        return told

    # -- small things --------------------------------------------------------------------------------------

    def _say(self, event: Event) -> Event:
        return self._journal.say(event)

    def _say_unless_stopped(self, event: Event) -> Event:
        self._mail.stop_if_asked()
        return self._say(event)
