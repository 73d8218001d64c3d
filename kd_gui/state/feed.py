"""Fold the event stream of one run, live or read back from the store, into what the panels draw.

A view asks the Feed and listens to its three signals; it never sees an event. `x` is counted in epochs over
all stages, so that several stages stand side by side on one axis; where a log does not say how long an epoch
is, in steps.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from PySide6.QtCore import QObject, Signal

from kd_engine import events as e
from kd_engine.events import STUDENT, Event
from kd_engine.recipe import get_at, set_at
from kd_gui.state.clock import Clock
from kd_gui.state.curves import Curve, Floats
from kd_gui.state.markers import Marker, Markers
from kd_gui.state.plan import Plan

ENDED = ("done", "stopped", "failed", "interrupted")


@dataclass
class StudentCurves:
    """What one student's reports said, each over x in epochs. terms: raw; weighted: times their weights."""

    loss: Curve = field(default_factory=Curve)
    lr: Curve = field(default_factory=Curve)
    terms: dict[str, Curve] = field(default_factory=dict)
    weighted: dict[str, Curve] = field(default_factory=dict)

    def all(self) -> list[Curve]:
        return [self.loss, self.lr, *self.terms.values(), *self.weighted.values()]


@dataclass(frozen=True)
class Epoch:
    """The end of an epoch: `x` epochs of the whole run are done."""

    x: float
    step: int
    train: dict[str, float]
    validation: dict[str, float]
    best: bool


@dataclass(frozen=True)
class Teacher:
    """Fractions, None where unknown."""

    model: str
    parameters: int
    top1: float | None
    top1_test: float | None


@dataclass(frozen=True)
class Progress:
    """epoch: the one at work, from 1. eta: seconds left, None until it means something."""

    epoch: int = 0
    epochs: int = 0
    step: int = 0
    steps_total: int = 0
    fraction: float = 0.0
    eta: float | None = None


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
        self._pending: dict[int, tuple[Curve, list[float], list[float]]] = {}

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
        """Fold in what happened, in order; thousands at a time are fine. Each signal is sent at most once."""
        changed: set[str] = set()
        for event in events:
            handler = self._HANDLERS.get(type(event))
            if handler is not None:
                write, what = handler
                write(self, event)
                changed.update(what)
        self._flush()
        self._tell(changed)

    def _tell(self, changed: set[str]) -> None:
        for what, signal in (
            ("run", self.run_changed),
            ("epochs", self.epochs_changed),
            ("curves", self.curves_changed),
        ):
            if what in changed:
                signal.emit()

    def _flush(self) -> None:
        for curve, x, y in self._pending.values():
            curve.extend(x, y)
        self._pending.clear()

    def _started(self, event: e.RunStarted) -> None:
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

    def _step_done(self, event: e.StepDone) -> None:
        if event.step != self.step:
            self.step = event.step
            self._clock.step(event.time, event.step)
        curves = self.curves.get(event.student)
        if curves is None:
            curves = self.curves[event.student] = StudentCurves()
        x = self.x_of(event.step)
        self._point(curves.loss, x, event.loss)
        self._point(curves.lr, x, event.lr)
        for said, kept in ((event.terms, curves.terms), (event.weighted, curves.weighted)):
            for name, value in said.items():
                curve = kept.get(name)
                if curve is None:
                    curve = kept[name] = Curve()
                self._point(curve, x, value)
        if event.student == STUDENT:
            self.samples_per_s = event.samples_per_s

    def _point(self, curve: Curve, x: float, y: float) -> None:
        pending = self._pending.get(id(curve))
        if pending is None:
            pending = self._pending[id(curve)] = (curve, [], [])
        pending[1].append(x)
        pending[2].append(y)

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

    _HANDLERS: ClassVar[dict[type[Event], tuple[Callable[[Any, Any], None], tuple[str, ...]]]] = {
        e.StepDone: (_step_done, ("curves", "run")),
        e.EpochDone: (_epoch_done, ("epochs", "run")),
        e.RunStarted: (_started, ("run", "curves", "epochs")),
        e.RunResumed: (_resumed, ("run", "curves", "epochs")),
        e.Preparing: (_prepares, ("run",)),
        e.TeacherReady: (_teacher_ready, ("epochs", "run")),
        e.StageStarted: (_stage_started, ("run", "curves", "epochs")),
        e.KnobChanged: (_knob_changed, ("curves", "run")),
        e.CheckpointSaved: (_saved, ("run",)),
        e.Paused: (_paused, ("run",)),
        e.Continued: (_continued, ("run",)),
        e.Notice: (_noticed, ("run",)),
        e.Evaluated: (_evaluated, ("epochs",)),
        e.RunDone: (_done, ("run", "epochs", "curves")),
        e.RunStopped: (_stopped, ("run", "epochs", "curves")),
        e.RunFailed: (_failed, ("run", "epochs", "curves")),
    }
