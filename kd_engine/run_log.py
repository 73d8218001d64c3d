"""A run's log: events are appended to it, and those that still hold after a resume are read from it.

A torn last line is tolerated: the machine may stop while it is written. Imports no torch.
"""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from pydantic_core import from_json, to_json

from kd_engine import disk, events
from kd_engine.errors import StoreError
from kd_engine.events import CheckpointSaved, Evaluated, Event, KnobChanged, RunResumed, StageStarted


class RunLog:
    """The log of one run, a file that is made with the first event; one JSON object a line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def append(self, event: Event) -> None:
        """Add one event to the log, and hand it to the operating system at once."""
        line = written(events.to_json(event)) + b"\n"
        try:
            with disk.told(self._path):
                if self._file is None:
                    self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115 (see close)
                    self._finish_torn_line()
                if self._file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except StoreError:
            self.close()  # the next event must not be glued to half of this one
            raise

    def events(self) -> Iterator[Event]:
        """All events that hold, in order: what a later resume superseded is left out; torn lines are
        skipped. They are made one by one: a long log's events need far more room than the log."""
        log = self._read()
        if RunResumed.__name__.encode() not in log:
            return told_in(log)
        kept: list[Event] = []
        for event in told_in(log):
            if isinstance(event, RunResumed):
                kept = holding(kept, event)
            kept.append(event)
        return iter(kept)

    def raw_events(self) -> Iterator[Event]:
        """All events as logged."""
        return told_in(self._read())

    def close(self) -> None:
        """Let go of the file; the next event opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read(self) -> bytes:
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise StoreError(f"{self._path}: cannot be read: {error.strerror}") from error

    def _finish_torn_line(self) -> None:
        """End a torn last line, so that the next event starts on a line of its own."""
        if self._path.stat().st_size:
            with open(self._path, "rb") as log:
                log.seek(-1, os.SEEK_END)
                torn = log.read(1) != b"\n"
            if torn and self._file is not None:
                self._file.write(b"\n")


def told_in(log: bytes) -> Iterator[Event]:
    """What the lines of a log tell."""
    for line in io.BytesIO(log):
        try:
            event = events.from_json(parsed(line))
        except (ValueError, TypeError, AttributeError):
            continue  # a torn line: the machine stopped while it was written
        if event is not None:
            yield event


def written(data: dict[str, Any]) -> bytes:
    """JSON in one line that `parsed` reads as the same, some six times as fast as `json.dumps`: a run that
    reports often writes one after every step.

    Half a surrogate in a name, which that refuses, is written in the ordinary way.
    """
    try:
        return to_json(data, inf_nan_mode="constants")
    except ValueError:
        return json.dumps(data, separators=(",", ":")).encode()


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
