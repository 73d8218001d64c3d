"""Collect cyclic garbage on the GUI thread only: elsewhere the collector could destroy QObjects in a foreign
thread."""

from __future__ import annotations

import gc

from PySide6.QtCore import QObject, QTimer

EVERY_MS = 500


class Collector(QObject):
    """Takes over from the interpreter's own trigger, with the same thresholds, until `stop`."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._thresholds = gc.get_threshold()
        self._timer = QTimer(self, interval=EVERY_MS)
        self._timer.timeout.connect(self.check)

    def start(self) -> None:
        """What exists by now mostly stays: it is left out of later collections, which keeps them short."""
        gc.disable()
        gc.collect()
        gc.freeze()
        self._timer.start()

    def stop(self) -> None:
        self._timer.stop()
        gc.unfreeze()
        gc.enable()

    def check(self) -> None:
        """Collect the oldest generation that is due."""
        due = [count > limit for count, limit in zip(gc.get_count(), self._thresholds, strict=True)]
        if due[0]:
            gc.collect(2 if all(due) else 1 if due[1] else 0)
