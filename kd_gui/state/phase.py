"""What the studio is doing now, what it allows, and what an event makes of it: an enum and two tables, no
Qt."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from enum import Enum, auto

from kd_engine import events as e
from kd_engine.events import Event


class Phase(Enum):
    """BOOT: the engine is loading, the window is usable. The rest follow a run from its start to its end."""

    BOOT = auto()
    READY = auto()
    PREPARING = auto()
    RUNNING = auto()
    PAUSED = auto()
    STOPPING = auto()
    DONE = auto()
    STOPPED = auto()
    FAILED = auto()


BOOT, READY, PREPARING, RUNNING, PAUSED, STOPPING, DONE, STOPPED, FAILED = Phase
IDLE = frozenset({READY, DONE, STOPPED, FAILED})  # nothing runs, and a run may be started
LIVE = frozenset({PREPARING, RUNNING, PAUSED, STOPPING})  # a run exists and has not ended
ENDED = frozenset({DONE, STOPPED, FAILED})
ALWAYS = frozenset(Phase)

# Facts beside the phase that an action may need (see `Rule.needs`).
SOUND = "sound"  # the experiment is known and has no problems
WEIGHTS = "weights"  # the run that is shown has weights that can be exported
REPLAY = "replay"  # a stored run is shown instead of the live or the last one
UNDO = "undo"
REDO = "redo"


@dataclass(frozen=True)
class Rule:
    """An action is enabled in these phases, when all of these facts hold too."""

    phases: Set[Phase]
    needs: Set[str] = frozenset()


RULES: dict[str, Rule] = {
    "distill": Rule(IDLE, frozenset({SOUND})),
    "pause": Rule(frozenset({RUNNING})),
    "go_on": Rule(frozenset({PAUSED})),
    "step_batch": Rule(frozenset({PAUSED})),
    "step_epoch": Rule(frozenset({PAUSED})),
    "stop_and_keep": Rule(frozenset({PREPARING, RUNNING, PAUSED})),
    "discard": Rule(frozenset({PREPARING, RUNNING, PAUSED})),
    "export": Rule(IDLE, frozenset({WEIGHTS})),
    "evaluate": Rule(IDLE, frozenset({WEIGHTS})),
    "resume": Rule(IDLE),
    "back": Rule(ALWAYS, frozenset({REPLAY})),
    "look_at": Rule(ALWAYS - {PREPARING}),
    "preset": Rule(ALWAYS - LIVE),
    "open_recipe": Rule(ALWAYS - LIVE),
    "open_runs": Rule(ALWAYS - LIVE),
    "save_recipe": Rule(ALWAYS),
    "reset": Rule(ALWAYS - LIVE),
    "undo": Rule(ALWAYS, frozenset({UNDO})),
    "redo": Rule(ALWAYS, frozenset({REDO})),
    "theme_system": Rule(ALWAYS),
    "theme_light": Rule(ALWAYS),
    "theme_dark": Rule(ALWAYS),
    "theme_toggle": Rule(ALWAYS),
    "evaluation": Rule(ALWAYS),
    "cache": Rule(ALWAYS),
    "log": Rule(ALWAYS),
    "keys": Rule(ALWAYS),
    "about": Rule(ALWAYS),
    "quit": Rule(ALWAYS),
}


_AFTER: dict[type[Event], Phase] = {
    e.RunStarted: PREPARING,
    e.RunResumed: PREPARING,
    e.StageStarted: RUNNING,
    e.StepDone: RUNNING,
    e.EpochDone: RUNNING,
    e.Continued: RUNNING,
    e.Paused: PAUSED,
    e.RunDone: DONE,
    e.RunStopped: STOPPED,
    e.RunFailed: FAILED,
}


def after(phase: Phase, event: Event) -> Phase:
    """The phase once `event` happened. Only an end ends stopping; what comes after an end changes nothing."""
    then = _AFTER.get(type(event), phase)
    if then in ENDED:
        return then
    begins = isinstance(event, (e.RunStarted, e.RunResumed)) and phase is not STOPPING
    return then if begins or phase in (PREPARING, RUNNING, PAUSED) else phase


def enabled(action: str, phase: Phase, facts: Set[str] = frozenset()) -> bool:
    """Whether `action` may be used now. KeyError for an action that the table does not know."""
    rule = RULES[action]
    return phase in rule.phases and rule.needs <= facts


def primary(phase: Phase) -> str:
    """The action that the one large button stands for: distill, pause or go_on."""
    if phase is PAUSED:
        return "go_on"
    return "pause" if phase in LIVE else "distill"
