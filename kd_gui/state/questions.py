"""What is asked of the engine outside a run's own stream: describe the experiment, look into a model, export
a student."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, QTimer, Signal

from kd_engine.commands import AskProbe
from kd_engine.errors import KdError
from kd_engine.events import ProbeReady
from kd_engine.remote import Answer
from kd_gui.engine_thread import Engine
from kd_gui.state.draft import Draft
from kd_gui.state.samples import Samples

DESCRIBE_MS = 250  # after the last change of the experiment

log = logging.getLogger(__name__)


class Questions(QObject):
    """Asks, and hands each answer to whoever waits for it. Late answers to an older description are
    dropped."""

    exported = Signal(dict)  # {path, card_path, bytes, code}
    export_failed = Signal(str)
    described = Signal(dict)
    evaluated = Signal(str, dict)  # the run's name, and what kd_engine.answers.evaluate tells
    evaluation_failed = Signal(str, str)

    def __init__(self, engine: Engine, draft: Draft, samples: Samples, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._engine = engine
        self._draft = draft
        self._samples = samples
        self._awake = False  # whether there is an engine that hears
        self.runs = Path()  # the store's folder: weights may be named by a run in it
        self._waiting: dict[str, Callable[[Answer], None]] = {}
        self._description = ""  # the id of the newest question about the experiment
        self._soon = QTimer(self, interval=DESCRIBE_MS, singleShot=True)
        self._soon.timeout.connect(self._describe)

    def answer(self, answer: Answer) -> None:
        waits = self._waiting.pop(answer.id, None)
        if waits is not None:
            waits(answer)

    def forget(self) -> None:
        """The engine is gone: nobody will answer."""
        self._awake = False
        self._soon.stop()
        waiting, self._waiting = self._waiting, {}
        for name, waits in waiting.items():
            waits(
                Answer(id=name, values=None, error=self.tr("The engine stopped before it answered."), hint="")
            )

    def wake(self) -> None:
        """The engine is there."""
        self._awake = True
        self.describe_soon()

    def describe_soon(self) -> None:
        """Ask what the experiment is about, once it has not changed for a moment."""
        if self._awake:
            self._soon.start()

    def not_now(self) -> None:
        """A run begins: the description can wait until it has ended."""
        self._soon.stop()

    def export(self, folder: Path, format: str, path: str, weights: str) -> None:
        """Write a run's student; `exported` or `export_failed` follows."""
        where = {"run": str(folder), "runs": str(folder.parent)}
        self._ask(self._exported, "export", **where, format=format, path=path, which=weights)

    def evaluate(self, folder: Path, robust: bool) -> None:
        """Have a run's models measured; `evaluated` or `evaluation_failed` follows."""
        where = {"run": str(folder), "runs": str(folder.parent)}
        self._ask(lambda answer: self._evaluated(folder.name, answer), "evaluate", **where, robust=robust)

    def probe(self, want: dict[str, Any], *, live: bool, folder: Path | None) -> None:
        """Look into the models of the live run, or of a stored one."""
        if live:
            self._engine.send(AskProbe(**want))
            return
        if folder is None:
            self._samples.refuse(want["id"], self.tr("There is no student to look at yet."))
            return
        question = {key: value for key, value in want.items() if key != "id"}
        where = {"run": str(folder), "runs": str(folder.parent)}
        self._ask(lambda answer: self._looked(want, answer), "probe", **where, **question)

    def _ask(self, then: Callable[[Answer], None], what: str, **values: Any) -> str:
        name = self._engine.ask(what, **values)
        self._waiting[name] = then
        return name

    def _describe(self) -> None:
        if self._draft.catalog is not None:
            self._description = self._ask(
                self._described, "describe", recipe=self._draft.document, runs=str(self.runs)
            )

    def _described(self, answer: Answer) -> None:
        if answer.id != self._description:
            return
        if answer.values is None:
            log.warning("the experiment could not be described: %s %s", answer.error, answer.hint)
            return
        self._draft.set_facts(answer.values)
        self.described.emit(answer.values)

    def _looked(self, want: dict[str, Any], answer: Answer) -> None:
        if answer.values is None:
            self._samples.refuse(want["id"], f"{answer.error} {answer.hint}".strip())
            return
        said = answer.values
        event = ProbeReady(
            id=want["id"],
            probe=want["probe"],
            sample=want["sample"],
            tap=want["tap"],
            step=int(said.get("step", 0)),
            epoch=int(said.get("epoch", 0)),
            path=said["path"],
            numbers=said.get("numbers", {}),
        )
        try:
            self._samples.take_probe(event)
        except KdError as error:
            self._samples.refuse(want["id"], str(error))

    def _evaluated(self, run: str, answer: Answer) -> None:
        if answer.values is None:
            self.evaluation_failed.emit(run, f"{answer.error} {answer.hint}".strip())
        else:
            self.evaluated.emit(run, answer.values)

    def _exported(self, answer: Answer) -> None:
        if answer.values is None:
            self.export_failed.emit(f"{answer.error} {answer.hint}".strip())
        else:
            self.exported.emit(answer.values)
