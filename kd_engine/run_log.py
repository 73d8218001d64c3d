"""Read a run's log: the events in its lines, and which still hold after a resume. Imports no torch."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

from pydantic_core import from_json

from kd_engine import events
from kd_engine.events import CheckpointSaved, Evaluated, Event, KnobChanged, RunResumed, StageStarted


def told_in(log: bytes) -> Iterator[Event]:
    """What the lines of a log tell."""
    for line in io.BytesIO(log):
        try:
            event = events.from_json(parsed(line))
        except (ValueError, TypeError, AttributeError):
            continue  # a torn line: the machine stopped while it was written
        if event is not None:
            yield event


def parsed(text: bytes) -> Any:
    """JSON as `json.loads` reads it, some three times as fast: a long log is nearly all numbers. ValueError.

    What it takes for broken is read again in the ordinary way, which accepts half a surrogate in a name.
    """
    try:
        return from_json(text)
    except ValueError:
        return json.loads(text)


def holding(told: list[Event], resumed: RunResumed) -> list[Event]:
    """Of what was told before a resume, what still holds: nothing of later steps and stages, no end, and no
    examination, which comes at the end. Changes at the very step, made after its checkpoint, are made
    again."""
    at = [i for i, old in enumerate(told) if isinstance(old, CheckpointSaved) and old.step == resumed.step]
    last_saved = max(at, default=-1)
    return [
        event
        for i, event in enumerate(told)
        if getattr(event, "step", 0) <= resumed.step
        and not isinstance(event, (*events.ENDS, Evaluated))
        and not (isinstance(event, StageStarted) and event.stage > resumed.stage)
        and not (isinstance(event, KnobChanged) and event.step == resumed.step and i > last_saved)
    ]
