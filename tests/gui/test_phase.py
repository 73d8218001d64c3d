"""The phase table, as a table: every action in every phase."""

from __future__ import annotations

import pytest

from kd_engine import events as e
from kd_gui.state import phase as phases
from kd_gui.state.phase import ALWAYS, RULES, Phase, after, enabled, primary

#             BOOT READY PREPARING RUNNING PAUSED STOPPING DONE STOPPED FAILED
TABLE = {
    "distill":       ". x . . . . x x x",
    "pause":         ". . . x . . . . .",
    "go_on":         ". . . . x . . . .",
    "step_batch":    ". . . . x . . . .",
    "step_epoch":    ". . . . x . . . .",
    "stop_and_keep": ". . x x x . . . .",
    "discard":       ". . x x x . . . .",
    "export":        ". x . . . . x x x",
    "evaluate":      ". x . . . . x x x",
    "resume":        ". x . . . . x x x",
    "back":          "x x x x x x x x x",
    "look_at":       "x x . x x x x x x",
    "preset":        "x x . . . . x x x",
    "open_recipe":   "x x . . . . x x x",
    "open_runs":     "x x . . . . x x x",
    "save_recipe":   "x x x x x x x x x",
    "reset":         "x x . . . . x x x",
    "undo":          "x x x x x x x x x",
    "redo":          "x x x x x x x x x",
    "theme_system":  "x x x x x x x x x",
    "theme_light":   "x x x x x x x x x",
    "theme_dark":    "x x x x x x x x x",
    "theme_toggle":  "x x x x x x x x x",
    "evaluation":    "x x x x x x x x x",
    "cache":         "x x x x x x x x x",
    "log":           "x x x x x x x x x",
    "keys":          "x x x x x x x x x",
    "about":         "x x x x x x x x x",
    "quit":          "x x x x x x x x x",
}  # fmt: skip
EVERY_FACT = frozenset({phases.SOUND, phases.WEIGHTS, phases.REPLAY, phases.UNDO, phases.REDO})
CELLS = [
    (action, phase, mark == "x")
    for action, row in TABLE.items()
    for phase, mark in zip(Phase, row.split(), strict=True)
]


@pytest.mark.parametrize(
    ("action", "phase", "expected"), CELLS, ids=lambda value: getattr(value, "name", value)
)
def test_an_action_is_enabled_just_where_the_table_says(action: str, phase: Phase, expected: bool) -> None:
    assert enabled(action, phase, EVERY_FACT) is expected


def test_the_table_covers_every_action() -> None:
    assert set(TABLE) == set(RULES)


@pytest.mark.parametrize(
    ("action", "fact"),
    [
        ("distill", phases.SOUND),
        ("export", phases.WEIGHTS),
        ("evaluate", phases.WEIGHTS),
        ("back", phases.REPLAY),
        ("undo", phases.UNDO),
        ("redo", phases.REDO),
    ],
)
def test_without_the_fact_it_needs_an_action_is_disabled_in_every_phase(action: str, fact: str) -> None:
    assert not any(enabled(action, phase, EVERY_FACT - {fact}) for phase in ALWAYS)
    assert RULES[action].needs == {fact}


def test_the_large_button_starts_then_pauses_then_goes_on() -> None:
    said = [primary(phase) for phase in Phase]
    assert said == ["distill", "distill", "pause", "pause", "go_on", "pause", "distill", "distill", "distill"]


def test_whatever_the_large_button_says_it_can_be_pressed_unless_something_is_on_its_way() -> None:
    blocked = {phase for phase in Phase if not enabled(primary(phase), phase, EVERY_FACT)}
    assert blocked == {Phase.BOOT, Phase.PREPARING, Phase.STOPPING}


WHERE = {"run": "r", "folder": "f", "recipe": {}, "environment": {}}
STEP = e.StepDone(
    stage=0, epoch=1, step=1, student="student", loss=1.0, terms={}, weighted={}, lr=0.1, samples_per_s=1.0
)
STAGE = e.StageStarted(
    stage=0, kind="distill", epochs=1, steps_per_epoch=1, students=[], model="m", parameters=1, classes=[]
)
STARTED, DONE = e.RunStarted(**WHERE), e.RunDone(run="r", summary={})
FAILED = e.RunFailed(run="r", error="data", message="")
STOPPED = e.RunStopped(run="r", step=1, kept=True)


def follow(phase: Phase, *events: e.Event) -> Phase:
    for event in events:
        phase = after(phase, event)
    return phase


@pytest.mark.parametrize(
    ("start", "events", "end"),
    [
        (Phase.READY, [STARTED], Phase.PREPARING),
        (Phase.READY, [STARTED, e.Preparing(what="data")], Phase.PREPARING),
        (Phase.PREPARING, [STAGE], Phase.RUNNING),
        (Phase.RUNNING, [STEP, e.Paused(step=1)], Phase.PAUSED),
        (Phase.PAUSED, [e.Continued(step=1)], Phase.RUNNING),
        (Phase.PAUSED, [STEP, e.Paused(step=2, why="step")], Phase.PAUSED),
        (Phase.PREPARING, [FAILED], Phase.FAILED),
        (Phase.RUNNING, [DONE], Phase.DONE),
        (Phase.STOPPING, [STEP, e.Paused(step=1)], Phase.STOPPING),
        (Phase.STOPPING, [STEP, STOPPED], Phase.STOPPED),
        (Phase.STOPPING, [STARTED, STAGE], Phase.STOPPING),
        (Phase.DONE, [STEP], Phase.DONE),
        (Phase.DONE, [STARTED, STAGE], Phase.RUNNING),
        (Phase.READY, [STEP, e.Paused(step=1)], Phase.READY),
    ],
)
def test_events_lead_from_one_phase_to_the_next(start: Phase, events: list[e.Event], end: Phase) -> None:
    assert follow(start, *events) is end
