"""Fold the event stream of one run, live or read back from the store, into what the panels draw.

A view asks the Feed and listens to its three signals; it never sees an event. `x` is counted in epochs over
all stages, so that several stages stand side by side on one axis; where a log does not say how long an epoch
is, in steps.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, ClassVar

import numpy as np
from PySide6.QtCore import QObject, Signal

from kd_engine import events as e
from kd_engine.document import get_at, set_at
from kd_engine.events import STUDENT, Event
from kd_gui.state.clock import Clock
from kd_gui.state.curves import Floats
from kd_gui.state.markers import Marker, Markers
from kd_gui.state.plan import Plan
from kd_gui.state.reports import Reports, StudentCurves, column
from kd_gui.state.told import Epoch, Progress, Teacher

ENDED = ("done", "stopped", "failed", "interrupted")


class Feed(QObject):
    """One run as far as it has come.

    status: "" (nothing yet), preparing, running, paused, done, stopped, failed or interrupted. Read
    everything, write nothing: only `take`, `clear` and `close` change it, and each signal comes at most once
    a call.
    """

    curves_changed = Signal()  # reports and markers
    epochs_changed = Signal()  # ends of epochs, the teacher, final results
    run_changed = Signal()  # status, progress, stages, notices

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._reset()

    def _reset(self) -> None:
        self.run = ""
        self.folder = ""
        self.status = ""
        self.document: dict[str, Any] = {}  # the recipe with all live changes in it
        self.environment: dict[str, Any] = {}
        self.preparing: e.Preparing | None = None
        self.students: list[str] = []
        self.curves: dict[str, StudentCurves] = {}
        self.epochs: dict[str, list[Epoch]] = {}
        self.teacher: Teacher | None = None
        self.stage: e.StageStarted | None = None
        self.evaluated: dict[tuple[str, str], dict[str, Any]] = {}  # by student and "last" or "best"
        self.summary: dict[str, Any] | None = None
        self.failure: e.RunFailed | None = None
        self.notices: list[e.Notice] = []
        self.saved_at: int | None = None  # epochs done at the last checkpoint
        self.samples_per_s = 0.0
        self.step = 0
        self._plan = Plan()
        self._markers = Markers()
        self._clock = Clock()
        self._reports = Reports()
        self._untold: set[type[Event]] = set()  # kinds of what was folded in since the views were told

    # -- what views read

    @property
    def empty(self) -> bool:
        return not self.status

    @property
    def live(self) -> bool:
        """Whether more is to come."""
        return self.status in ("preparing", "running", "paused")

    @property
    def markers(self) -> list[Marker]:
        """Where live knobs changed, in order."""
        return self._markers.all()

    @property
    def seconds(self) -> float:
        """Time spent at work, pauses left out."""
        return self._clock.active

    @property
    def steps_per_s(self) -> float | None:
        """The pace of the last few seconds, None before there is one."""
        return self._clock.pace()

    @property
    def device(self) -> str:
        """A word for where it computes: "CPU", or the name of the accelerator."""
        kind = str(self.environment.get("device", ""))
        return kind.upper() if kind == "cpu" else str(self.environment.get("device_name") or kind)

    @property
    def total_epochs(self) -> int:
        """Epochs of all stages as the recipe plans them, 0 when unknown."""
        return self._plan.epochs

    @property
    def temperature(self) -> float | None:
        """The temperature in force, None where no method has one."""
        for stage in self.document.get("stages", ()):
            for method in stage.get("methods", ()):
                if "temperature" in method:
                    return float(method["temperature"])
        return None

    @property
    def progress(self) -> Progress:
        steps = self._plan.steps
        if self.status == "done":
            return Progress(self.total_epochs, self.total_epochs, self.step, steps, 1.0, None)
        x = self.x_of(self.step)
        epoch = min(int(x) + 1, self.total_epochs) if self.stage is not None else 0
        fraction = min(self.step / steps, 1.0) if steps else 0.0
        eta = self._clock.eta(self.step, steps) if self.live else None
        return Progress(epoch, self.total_epochs, self.step, steps, fraction, eta)

    def x_of(self, step: int) -> float:
        """Where a step lies on the axis: in epochs over all stages."""
        return self._plan.x_of(step)

    def metric(self, student: str, part: str, name: str) -> tuple[Floats, Floats]:
        """One number per epoch over x. part: "train" or "validation"; name: as in EpochDone ("top1", ...)."""
        points = [(epoch.x, getattr(epoch, part).get(name)) for epoch in self.epochs.get(student, ())]
        known = [(x, y) for x, y in points if y is not None and np.isfinite(y)]
        x, y = np.array(known, dtype=np.float64).reshape(-1, 2).T
        return x, y

    def best(self, student: str) -> Epoch | None:
        """The epoch that is best on validation so far."""
        return next((epoch for epoch in reversed(self.epochs.get(student, ())) if epoch.best), None)

    def last(self, student: str) -> Epoch | None:
        epochs = self.epochs.get(student)
        return epochs[-1] if epochs else None

    # -- what writes

    def clear(self) -> None:
        """Forget the run."""
        self._reset()
        self._tell({"curves", "epochs", "run"})

    def close(self, status: str) -> None:
        """Say how a log without an ending ended ("interrupted")."""
        self.status = status
        self._clock.stop()
        self._tell({"run"})

    def take(self, events: Sequence[Event]) -> None:
        """Fold in what happened, in order, and tell. Each signal is sent at most once."""
        self.fold(events)
        self.tell()

    def fold(self, events: Sequence[Event]) -> None:
        """Fold in what happened, in order; thousands at a time are fine. `tell` is for the caller to call:
        every telling is a drawing of the curves."""
        for kind, told in groupby(events, type):
            if kind is e.StepDone:
                self._steps_done(list(told))  # type: ignore[arg-type]
            elif kind in self._HANDLERS:
                for event in told:
                    self._HANDLERS[kind](self, event)
        self._flush()
        self._untold.update(map(type, events))

    def tell(self) -> None:
        """Let the views know what was folded in since the last time."""
        kinds, self._untold = self._untold, set()
        self._tell({what for kind in kinds for what in self._CHANGES.get(kind, ())})

    def _tell(self, changed: set[str]) -> None:
        for what, signal in (
            ("run", self.run_changed),
            ("epochs", self.epochs_changed),
            ("curves", self.curves_changed),
        ):
            if what in changed:
                signal.emit()

    def _flush(self) -> None:
        self._reports.put_on(self.curves, self._plan.xs_of)

    def _started(self, event: e.RunStarted) -> None:
        self._flush()
        if self.run and self.run != event.run:
            self._reset()
        self._name(event)

    def _resumed(self, event: e.RunResumed) -> None:
        self._flush()
        self._name(event)
        self.step = event.step
        limit = self.x_of(event.step)
        for curves in self.curves.values():
            for curve in curves.all():
                curve.cut(limit)
        for name, epochs in self.epochs.items():
            self.epochs[name] = [epoch for epoch in epochs if epoch.step <= event.step]
        self._markers.cut(event.step)
        self._clock.restart()
        self.evaluated.clear()
        self.summary = self.failure = None

    def _name(self, event: e.RunStarted | e.RunResumed) -> None:
        self.run, self.folder = event.run, event.folder
        self.document, self.environment = copy.deepcopy(event.recipe), event.environment
        self._plan.read(self.document)
        self.status = "preparing"

    def _prepares(self, event: e.Preparing) -> None:
        self.preparing = event
        self.status = self.status or "preparing"

    def _teacher_ready(self, event: e.TeacherReady) -> None:
        self.teacher = Teacher(event.model, event.parameters, event.top1, event.top1_test)

    def _stage_started(self, event: e.StageStarted) -> None:
        self._flush()
        self._plan.begin(event)
        self.stage = event
        for name in event.students:
            self.curves.setdefault(name, StudentCurves())
            self.epochs.setdefault(name, [])
        self.students = list(event.students)
        self.preparing, self.status = None, "running"

    def _steps_done(self, reports: Sequence[e.StepDone]) -> None:
        """Reports that follow each other; one of several students at one step is one step of the clock."""
        steps = column("step", reports)
        new = np.flatnonzero(np.diff(steps, prepend=self.step))
        if new.size:
            self._clock.steps(column("time", reports)[new], steps[new].astype(int))
        self.step = reports[-1].step
        self._reports.add(reports)
        last = next((report for report in reversed(reports) if report.student == STUDENT), None)
        if last is not None:
            self.samples_per_s = last.samples_per_s

    def _epoch_done(self, event: e.EpochDone) -> None:
        x = float(self._plan.epochs_before(event.stage) + event.epoch)
        done = Epoch(x, event.step, event.train, event.validation, event.best)
        self.epochs.setdefault(event.student, []).append(done)
        self.step = max(self.step, event.step)

    def _knob_changed(self, event: e.KnobChanged) -> None:
        self._markers.add(event, self.x_of(event.step), self.document)
        try:
            get_at(self.document, event.path)
        except (KeyError, IndexError, ValueError, TypeError):
            return  # a log whose recipe has no such place: the marker tells all that is known
        set_at(self.document, event.path, event.new)

    def _saved(self, event: e.CheckpointSaved) -> None:
        self.saved_at = self._plan.epochs_before(event.stage) + event.epoch

    def _paused(self, event: e.Paused) -> None:
        self._clock.pause(event.time)
        self.status = "paused"

    def _continued(self, event: e.Continued) -> None:
        self._clock.go_on(event.time)
        self.status = "running"

    def _noticed(self, event: e.Notice) -> None:
        self.notices.append(event)

    def _evaluated(self, event: e.Evaluated) -> None:
        self.evaluated[event.student, event.weights] = event.metrics

    def _done(self, event: e.RunDone) -> None:
        self.summary = event.summary
        self._end("done")

    def _stopped(self, event: e.RunStopped) -> None:
        self._end("stopped")

    def _failed(self, event: e.RunFailed) -> None:
        self.failure = event
        self._end("failed")

    def _end(self, status: str) -> None:
        self.status = status
        self.preparing = None
        self._clock.stop()

    _HANDLERS: ClassVar[dict[type[Event], Callable[[Any, Any], None]]] = {
        e.EpochDone: _epoch_done,
        e.RunStarted: _started,
        e.RunResumed: _resumed,
        e.Preparing: _prepares,
        e.TeacherReady: _teacher_ready,
        e.StageStarted: _stage_started,
        e.KnobChanged: _knob_changed,
        e.CheckpointSaved: _saved,
        e.Paused: _paused,
        e.Continued: _continued,
        e.Notice: _noticed,
        e.Evaluated: _evaluated,
        e.RunDone: _done,
        e.RunStopped: _stopped,
        e.RunFailed: _failed,
    }

    _CHANGES: ClassVar[dict[type[Event], tuple[str, ...]]] = {
        e.StepDone: ("curves", "run"),
        e.EpochDone: ("epochs", "run"),
        e.RunStarted: ("run", "curves", "epochs"),
        e.RunResumed: ("run", "curves", "epochs"),
        e.Preparing: ("run",),
        e.TeacherReady: ("epochs", "run"),
        e.StageStarted: ("run", "curves", "epochs"),
        e.KnobChanged: ("curves", "run"),
        e.CheckpointSaved: ("run",),
        e.Paused: ("run",),
        e.Continued: ("run",),
        e.Notice: ("run",),
        e.Evaluated: ("epochs",),
        e.RunDone: ("run", "epochs", "curves"),
        e.RunStopped: ("run", "epochs", "curves"),
        e.RunFailed: ("run", "epochs", "curves"),
    }
