"""What can be asked of a session while it runs, as frozen plain values. Applied between two steps, answered
by events."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Command:
    """Base of all commands."""


@dataclass(frozen=True)
class Pause(Command):
    """Stand still at the next step boundary; answered by `Paused`."""


@dataclass(frozen=True)
class Continue(Command):
    """Go on after a pause; answered by `Continued`."""


@dataclass(frozen=True)
class StepOnce(Command):
    """Go on for one "batch" or one "epoch", then pause."""

    unit: str = "batch"


@dataclass(frozen=True)
class Stop(Command):
    """End the run. keep: save a checkpoint first; otherwise the run's folder is removed. Answered by
    `RunStopped`."""

    keep: bool = True


@dataclass(frozen=True)
class SetKnob(Command):
    """Set a live knob, as in `SetKnob("stages.0.methods.0.temperature", 8.0)`. Answered by `KnobChanged` or
    `Refused`."""

    path: str
    value: Any


@dataclass(frozen=True)
class AskProbe(Command):
    """A picture, please. `sample`: an index into `part` ("validation", "test" or "train"); `tap`: a tap's
    name or "auto" (the last stage); roles: who is asked. Answered by `ProbeReady` with the same `id`, or
    `Refused`."""

    probe: str
    sample: int
    tap: str = "auto"
    roles: tuple[str, ...] = ("teacher", "student")
    part: str = "validation"
    id: str = field(default="")


KINDS: dict[str, type[Command]] = {kind.__name__: kind for kind in Command.__subclasses__()}


def to_json(command: Command) -> dict[str, Any]:
    """`{"command": "SetKnob", "path": ..., "value": ...}`."""
    return {"command": type(command).__name__, **asdict(command)}


def from_json(data: dict[str, Any]) -> Command:
    """The command that `data` tells. Raises KeyError for an unknown kind."""
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in data.items() if name != "command"}
    return KINDS[data["command"]](**values)
