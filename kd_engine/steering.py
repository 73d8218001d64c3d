"""Steer a run between two of its steps: commands, pauses, single steps, live knobs, probes, and the way back
from a loss that is no number.

Commands are obeyed in `Steering.between_steps` and nowhere else.
"""

from __future__ import annotations

import copy
import logging
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable

from kd_engine import catalog, checkpoint, conflicts
from kd_engine import events as e
from kd_engine.catalog import Catalog
from kd_engine.checkpoint import Change
from kd_engine.classroom import Classroom
from kd_engine.commands import AskProbe, Command, Continue, Pause, SetKnob, StepOnce, Stop
from kd_engine.data import plan
from kd_engine.document import get_at, live_knobs, set_at
from kd_engine.errors import KdError, StoreError
from kd_engine.events import Event
from kd_engine.failures import cause_of_nan
from kd_engine.gallery import Gallery, keep
from kd_engine.journal import Journal
from kd_engine.standing import Standing
from kd_engine.trainee import Report, Trainee

UNITS = ("batch", "epoch")

log = logging.getLogger("kd_engine")
Events = Generator[Event, None, None]


class Stopped(Exception):
    """The run was asked to stop. keep: as in the command."""

    def __init__(self, keep: bool) -> None:
        self.keep = keep


class Mailbox:
    """Commands, in order, from any thread."""

    def __init__(self) -> None:
        self._mail: deque[Command] = deque()
        self._bell = threading.Condition()

    def send(self, command: Command) -> None:
        with self._bell:
            self._mail.append(command)
            self._bell.notify()

    def take(self, patience_s: float = 0.0) -> Command | None:
        """The next command, after waiting so long for one."""
        with self._bell:
            if not self._mail and patience_s:
                self._bell.wait(patience_s)
            return self._mail.popleft() if self._mail else None

    def stop_if_asked(self) -> None:
        """Where nothing else can be obeyed: `Stopped` if a wish to stop is among the commands, which all
        stay."""
        with self._bell:
            wish = next((command for command in self._mail if isinstance(command, Stop)), None)
        if wish is not None:
            raise Stopped(wish.keep)


class Steering:
    """Obeys the mail of one run.

    idle: called now and then while paused. changes: live changes to make, in the order of their steps.
    """

    def __init__(
        self,
        mail: Mailbox,
        changes: Iterable[Change],
        idle: Callable[[], None],
        now: Standing,
        room: Classroom,
        gallery: Gallery,
        journal: Journal,
    ) -> None:
        self._mail = mail
        self._changes = deque(changes)
        self._idle = idle
        self._now = now
        self._room = room
        self._gallery = gallery
        self._journal = journal
        self._paused = False
        self._countdown: int | None = None  # steps until the next pause
        self._catalog: Catalog | None = None

    def between_steps(self) -> Events:
        """Obey what was asked; while paused, wait for more. Returns when the next step may be made."""
        yield from self.checkpointed(wait=False)
        while self._changes and self._changes[0][0] <= self._now.at.step:
            yield from self.checkpointed()
            _, path, value = self._changes.popleft()
            yield self._set_knob(SetKnob(path, value))
        if self._now.sick:
            yield from self._pause("nan")
        elif self._countdown == 0:
            yield from self._pause("step")
        while (command := self._mail.take(0.1 if self._paused else 0.0)) is not None or self._paused:
            if command is None:
                self._idle()
                continue
            yield from self.checkpointed()
            yield from self._obey(command)
            if isinstance(command, StepOnce) and not self._paused:
                return  # two of them are two steps

    def step_made(self) -> None:
        if self._countdown is not None:
            self._countdown -= 1

    def report(self) -> Events:
        """Tell how the students do. After a loss that was no number the run pauses before its next step."""
        told, bad = self._journal.report()
        yield from told
        if bad is not None and not self._now.sick:
            yield self._fall_sick(*bad)

    def checkpoint(self) -> Events:
        """Report, and have kept where the run stands; not when a loss is no number: the last good one
        stays."""
        yield from self.checkpointed()
        yield from self.report()
        if not self._now.sick:
            self._journal.begin_checkpoint(self._room)
            self._journal.start_clock()

    def checkpointed(self, wait: bool = True) -> Events:
        """Tell of a checkpoint that was begun, when it is on the disk.

        Nothing may depend on one that is not there: no change of a knob may come between how a run stood and
        the word that this is kept, so that a resume can tell which changes to make again.
        """
        told = self._journal.checkpointed(wait)
        if told is not None:
            yield told

    def refuse_rest(self) -> Events:
        """Nothing can be asked any more."""
        while (command := self._mail.take()) is not None:
            yield self._journal.refuse(command, "", "the run is at its end")

    # -- commands ------------------------------------------------------------------------------------------

    def _obey(self, command: Command) -> Events:
        if isinstance(command, Stop):
            raise Stopped(command.keep)
        if isinstance(command, SetKnob):
            yield self._set_knob(command)
        elif isinstance(command, AskProbe):
            yield self._probe(command)
        elif isinstance(command, Pause):
            if self._paused:
                yield self._journal.refuse(command, "", "the run is paused already")
            else:
                yield from self._pause("asked")
        elif isinstance(command, Continue):
            if self._paused or self._countdown is not None:
                yield from self._go_on(None)
            else:
                yield self._journal.refuse(command, "", "the run is not paused")
        elif isinstance(command, StepOnce):
            if command.unit in UNITS:
                yield from self._go_on(command.unit)
            else:
                why = f"got {command.unit!r}, expected {' or '.join(UNITS)}"
                yield self._journal.refuse(command, "unit", why)

    def _pause(self, why: str) -> Events:
        yield from self.checkpointed()
        if not self._now.sick:
            yield from self.report()
        self._paused = True
        yield self._journal.say(e.Paused(step=self._now.at.step, why="nan" if self._now.sick else why))

    def _go_on(self, unit: str | None) -> Events:
        """For one `unit`, or without end."""
        if self._now.sick:
            yield from self._go_back()
        if unit is None:
            self._countdown = None
        else:
            self._countdown = 1 if unit == "batch" else self._steps_left_in_epoch()
        if self._paused:
            self._journal.start_clock()
        if self._paused or unit is None:
            self._paused = False
            yield self._journal.say(e.Continued(step=self._now.at.step))

    def _steps_left_in_epoch(self) -> int:
        return len(plan(len(self._room.data.train), self._now.stage.batch_size, 0, 0)) - self._now.at.batch

    def _set_knob(self, command: SetKnob) -> Event:
        now, path = self._now, command.path
        self._catalog = self._catalog or catalog.load()
        live = {live.path: live.knob for live in live_knobs(now.document, self._catalog)}
        if not isinstance(path, str) or path not in live:
            return self._journal.refuse(command, path, "not a setting that can change while a run is live")
        if (why := live[path].problem(command.value)) is not None:
            return self._journal.refuse(command, path, why)
        changed = copy.deepcopy(now.document)
        set_at(changed, path, command.value)
        if (clash := next(conflicts.view_problems(changed, self._catalog), None)) is not None:
            return self._journal.refuse(command, path, clash.message)
        old = get_at(now.document, path)
        set_at(now.document, path, command.value)
        now.apply_knobs()
        return self._journal.say(e.KnobChanged(step=now.at.step, path=path, old=old, new=command.value))

    def _probe(self, command: AskProbe) -> Event:
        student, at = self._now.students[0], self._now.at
        try:
            arrays, numbers = self._gallery.probe(command, student.module, student.taps)
            name = f"probes/{command.probe}_{command.part}_{command.sample}_{command.tap}_{at.step}.npz"
            path = keep(self._journal.run, name, arrays)
        except StoreError:
            raise
        except Exception as error:  # the border: a probe's fault must not end a run that teaches
            if not isinstance(error, KdError):
                log.error("probe failed: %s", command, exc_info=error)
            why = str(error) if isinstance(error, KdError) else f"{type(error).__name__}: {error}"
            return self._journal.refuse(command, command.id, why)
        return self._journal.say(
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

    # -- a loss that is no number --------------------------------------------------------------------------

    def _fall_sick(self, student: Trainee, report: Report) -> Event:
        """Say at which step, in which loss, and the likely cause."""
        assert report.bad is not None
        self._now.sick = True
        step, cause = report.bad + 1, cause_of_nan(report.bad_terms, student.lr)
        message = f"The loss of '{student.name}' became no number (NaN or infinite) at step {step}: {cause}."
        values = {"step": step, "student": student.name, "terms": list(report.bad_terms), "lr": student.lr}
        return self._journal.notice("error", "nan", message, **values)

    def _go_back(self) -> Events:
        """Take the last good weights again; what was changed by hand meanwhile stays changed."""
        now = self._now
        saved = checkpoint.load(self._journal.run)
        self._catalog = self._catalog or catalog.load()
        changed = [
            SetKnob(live.path, live.value)
            for live in live_knobs(now.document, self._catalog)
            if get_at(saved.recipe, live.path) != live.value
        ]
        now.restore(saved)
        yield self._journal.resumed(self._room.backend.environment())
        for command in changed:
            yield self._set_knob(command)
        yield from self.checkpoint()
        yield from self.checkpointed()
