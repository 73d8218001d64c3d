"""Send what the user drags to the live run: the latest value of each knob, a few times a second, where it
means the same."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from PySide6.QtCore import QObject, QTimer

from kd_engine.commands import Command, SetKnob
from kd_engine.document import live_knobs, set_at
from kd_engine.events import Event, KnobChanged, RunResumed, RunStarted
from kd_gui.state.draft import Draft

EVERY_MS = 80


class LiveEdits(QObject):
    """document: the live run's recipe with all changes that the engine confirmed; empty when nothing is
    live."""

    def __init__(
        self, draft: Draft, send: Callable[[Command], object], parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self.document: dict[str, Any] = {}
        self._draft = draft
        self._send = send
        self._edits: dict[str, Any] = {}
        self._soon = QTimer(self, interval=EVERY_MS, singleShot=True)
        self._soon.timeout.connect(self.flush)

    def edit(self, path: str, value: Any) -> None:
        """A live setting of the experiment took another value. Ignored where the live run has something else
        there."""
        if self._owner(self.document, path) == self._owner(self._draft.document, path) is not None:
            self._edits[path] = value
            if not self._soon.isActive():
                self._soon.start()

    def flush(self) -> None:
        """Send now what waits."""
        self._soon.stop()
        edits, self._edits = self._edits, {}
        for path, value in edits.items():
            self._send(SetKnob(path, value))

    def take(self, event: Event) -> None:
        """Follow the live run's recipe."""
        if isinstance(event, (RunStarted, RunResumed)):
            self.document = copy.deepcopy(event.recipe)
        elif isinstance(event, KnobChanged) and self.document:
            set_at(self.document, event.path, event.new)

    def end(self) -> None:
        """The live run is over: nothing more is sent."""
        self._soon.stop()
        self._edits.clear()
        self.document = {}

    def _owner(self, document: Mapping[str, Any], path: str) -> str | None:
        """Whose knob stands at `path` ("kd", "sgd", ...), None where no live knob does."""
        if not document or self._draft.catalog is None:
            return None
        knobs = live_knobs(document, self._draft.catalog)
        return next((knob.owner for knob in knobs if knob.path == path), None)
