"""What happened in a run, as frozen plain values: the one stream behind window, command line, replay and
comparison.

`to_json`/`from_json` are a round trip. Arrays never travel in an event: they go by file name. Steps count
optimizer steps from the start of a run, over all its stages; step 0 is before the first. A `student` is
"student" for the one being distilled, or a rival's name.
"""

from __future__ import annotations

import time as _time
from dataclasses import dataclass, field, fields
from typing import Any

STUDENT = "student"  # the name of the student that the recipe is about, beside its rivals


@dataclass(frozen=True, kw_only=True)
class Event:
    """`time`: seconds since the epoch at which it happened."""

    time: float = field(default_factory=_time.time)


@dataclass(frozen=True, kw_only=True)
class RunStarted(Event):
    """A run exists in the store. `folder`: its path; `environment`: versions, device, threads; a notice
    `threads` tells where another number of them is taken."""

    run: str
    folder: str
    recipe: dict[str, Any]
    environment: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class RunResumed(Event):
    """A run goes on from its last checkpoint: whatever the log says of later steps is superseded from here
    on."""

    run: str
    folder: str
    recipe: dict[str, Any]
    environment: dict[str, Any]
    stage: int
    epoch: int
    step: int


@dataclass(frozen=True, kw_only=True)
class Preparing(Event):
    """A named sub-step before training. `what`: a code (data, teacher, student, ...); `fraction`: 0 to 1,
    or None."""

    what: str
    detail: str = ""
    fraction: float | None = None


@dataclass(frozen=True, kw_only=True)
class TeacherReady(Event):
    """The teacher stands. `top1`: its accuracy on the validation part (fraction), None without one."""

    model: str
    parameters: int
    top1: float | None
    top1_test: float | None = None


@dataclass(frozen=True, kw_only=True)
class StageStarted(Event):
    """`students`: STUDENT first, then the rivals, in order; `parameters`: of the student alone."""

    stage: int
    kind: str
    epochs: int
    steps_per_epoch: int
    students: list[str]
    model: str
    parameters: int
    classes: list[str]


@dataclass(frozen=True, kw_only=True)
class StepDone(Event):
    """A report, made at most every 50 ms: means since the last report. terms: raw; weighted: times their
    weights."""

    stage: int
    epoch: int
    step: int
    student: str
    loss: float
    terms: dict[str, float]
    weighted: dict[str, float]
    lr: float
    samples_per_s: float


@dataclass(frozen=True, kw_only=True)
class EpochDone(Event):
    """`epoch`: how many are done (from 1). train, validation: metrics as plain numbers (top1 as a fraction,
    loss, and, against the teacher, agreement and kl). `best`: best on validation so far."""

    stage: int
    epoch: int
    step: int
    student: str
    train: dict[str, float]
    validation: dict[str, float]
    best: bool
    seconds: float


@dataclass(frozen=True, kw_only=True)
class KnobChanged(Event):
    """A live knob took a new value, in force from the step after `step`."""

    step: int
    path: str
    old: Any
    new: Any


@dataclass(frozen=True, kw_only=True)
class Refused(Event):
    """A command that was not carried out, and why. `path`: what it was about."""

    command: str
    path: str
    why: str


@dataclass(frozen=True, kw_only=True)
class ProbeReady(Event):
    """An answer to AskProbe with the same `id`. `path`: an .npz (see kd_engine.probes for the arrays)."""

    id: str
    probe: str
    sample: int
    tap: str
    step: int
    epoch: int
    path: str
    numbers: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SamplesReady(Event):
    """The pictures of the strip and what the teacher says of them. `path`: an .npz (see
    kd_engine.snapshots)."""

    path: str
    part: str


@dataclass(frozen=True, kw_only=True)
class SnapshotSaved(Event):
    """What all probed samples looked like at the end of an epoch (`path`: an .npz), for the scrubber."""

    stage: int
    epoch: int
    step: int
    path: str


@dataclass(frozen=True, kw_only=True)
class CheckpointSaved(Event):
    """The run can be resumed from here."""

    stage: int
    epoch: int
    step: int
    path: str
    bytes: int
    ms: float


@dataclass(frozen=True, kw_only=True)
class Paused(Event):
    """`why`: "asked", "step" (a single step is done) or "nan" (a loss is not a number; see the notice
    before it)."""

    step: int
    why: str = "asked"


@dataclass(frozen=True, kw_only=True)
class Continued(Event):
    step: int


@dataclass(frozen=True, kw_only=True)
class Notice(Event):
    """Something to tell that does not end the run. level: info, warning or error; `code` names it for the
    desktop."""

    level: str
    code: str
    message: str
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Evaluated(Event):
    """Final metrics on the test part, for one model. `weights`: "last" or "best" (on validation); student
    may also be "teacher". `metrics`: see kd_engine.final.examine."""

    student: str
    weights: str
    metrics: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class RunDone(Event):
    """The run is complete. `summary`: as in summary.json."""

    run: str
    summary: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class RunStopped(Event):
    """Stopped on request. kept: it can be resumed, looked at and exported; otherwise its folder is gone."""

    run: str
    step: int
    kept: bool


@dataclass(frozen=True, kw_only=True)
class RunFailed(Event):
    """The run ended against its will. `error`: a code (data, weights, store, memory, engine_died, error)."""

    run: str
    error: str
    message: str
    hint: str = ""
    step: int = 0
    resumable: bool = False


KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in Event.__subclasses__()}
FIELDS = {
    kind: ("event", *(f.name for f in fields(kind))) for kind in KINDS.values()
}  # as `to_json` has them
ENDS = (RunDone, RunStopped, RunFailed)


def to_json(event: Event) -> dict[str, Any]:
    """`{"event": "StepDone", "time": ..., ...}`, with the event's own values, not copies: to be written at
    once."""
    return {"event": type(event).__name__, **vars(event)}


def from_json(data: dict[str, Any]) -> Event | None:
    """The event that `data` tells, or None for a kind that this version does not know. Unknown fields are
    dropped."""
    kind = KINDS.get(data.get("event", ""))
    if kind is None:
        return None
    known = FIELDS[kind]
    if tuple(data) == known:  # nearly always: a log has thousands, and a frozen __init__ sets one by one
        event = object.__new__(kind)
        event.__dict__.update(data)
        del event.__dict__["event"]
        return event
    return kind(**{name: value for name, value in data.items() if name in known and name != "event"})
