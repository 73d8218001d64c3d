"""Turn what happened into notices with a way out: a NaN loss, too little memory, a dead engine, a run that
was cut off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import QObject, QSettings

from kd_engine import events as e
from kd_engine.document import get_at
from kd_engine.errors import KdError, Problem
from kd_engine.events import Event
from kd_engine.store import Store
from kd_gui.state import wording
from kd_gui.state.notices import Notices, Offer, Post
from kd_gui.state.reading import Reading

DISMISSED = "runs/dismissed"  # the interrupted run that the user does not want to hear of again
OF_A_RUN = ("nan", "end", "refused", "run")  # keys of posts that a new run takes down


@dataclass(frozen=True)
class Ways:
    """What notices can offer, as the studio does it."""

    set_value: Callable[[str, Any], object]
    distill: Callable[[], object]
    go_on: Callable[[], object]
    stop_and_keep: Callable[[], object]
    resume: Callable[[str], object]
    export: Callable[[], object]
    evaluate: Callable[[], object]
    start_engine: Callable[[], object]


@dataclass(frozen=True)
class Interrupted:
    """A run that ended without a word. epoch: the last one that was saved, None when unknown."""

    name: str
    title: str
    epoch: int | None
    epochs: int


class Tidings(QObject):
    """Posts; decides nothing about a run."""

    def __init__(self, notices: Notices, ways: Ways, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._notices = notices
        self._ways = ways
        self._reading = Reading(self)
        self._reading.done.connect(self._found)

    def clear_run(self) -> None:
        """A new run begins."""
        self._notices.withdraw(*OF_A_RUN, "interrupted")

    def tell(self, error: KdError, key: str = "error") -> None:
        self._notices.post(Post(key, "error", error.message, error.hint))

    def problems(self, problems: list[Problem]) -> None:
        """What is wrong with the experiment; the forms mark the places."""
        if not problems:
            self._notices.withdraw("problems")
            return
        said = [str(problem) for problem in problems]
        more = self.tr("and {count} more, marked in the form").format(count=len(said) - 1) if said[1:] else ""
        self._notices.post(Post("problems", "warning", said[0], more))

    def follow(self, event: Event, document: dict[str, Any], rate: float | None) -> None:
        """document: the live run's recipe, live changes included; rate: its last learning rate."""
        if isinstance(event, e.Paused) and event.why == "nan":
            self._nan(event, document, rate)
        elif isinstance(event, e.Refused) and event.command not in ("AskProbe", "SetKnob"):
            line = self.tr("Not applied: {what}").format(what=f"{event.path} {event.why}".strip())
            self._notices.post(Post("refused", "warning", line))
        elif isinstance(event, e.Notice) and not _is_quiet(event):
            levels = {"info": "info", "warning": "warning", "error": "error"}
            self._notices.post(Post(event.code, levels.get(event.level, "info"), event.message))  # type: ignore[arg-type]
        elif isinstance(event, e.RunFailed):
            self._failed(event, document)

    def done(self, summary: dict[str, Any], temperature: float, temperature_path: str | None) -> None:
        """A run is complete: what it was worth, and what to do next."""
        offers = [Offer(self.tr("Export student…"), self._ways.export, stays=True)]
        if temperature_path is not None:
            other = 4.0 if temperature == 1.0 else 1.0

            def again() -> None:
                self._ways.set_value(temperature_path, other)
                self._ways.distill()

            offers.append(Offer(self.tr("Try T = {value}").format(value=f"{other:g}"), again))
        offers.append(Offer(self.tr("Evaluation"), self._ways.evaluate, stays=True))
        self._notices.post(Post("end", "good", wording.done_line(summary) + ".", "", tuple(offers)))

    def engine_gone(self, reason: str, *, again: bool) -> None:
        """again: it is being started anew; otherwise the user is asked to."""
        offers = () if again else (Offer(self.tr("Start it again"), self._ways.start_engine),)
        text = self.tr("The engine stopped: {reason}").format(reason=reason)
        hint = (
            self.tr("It is being started again.")
            if again
            else self.tr("It did not start. The log may say why.")
        )
        self._notices.post(Post("engine", "error", text, hint, offers))

    def look_for_interrupted(self, store: Store) -> None:
        """Offer to go on with the newest run, if that was cut off and the user has not declined."""
        self._reading.ask("interrupted", lambda: newest_interrupted(store))

    def _found(self, _tag: object, found: object) -> None:
        if not isinstance(found, Interrupted) or QSettings().value(DISMISSED) == found.name:
            return
        offers = (
            Offer(self.tr("Restore it"), lambda: self._ways.resume(found.name)),
            Offer(self.tr("Not now"), lambda: QSettings().setValue(DISMISSED, found.name)),
        )
        line = wording.interrupted_line(found.title, found.epoch, found.epochs)
        self._notices.post(Post("interrupted", "info", line, "", offers))

    def _nan(self, event: e.Paused, document: dict[str, Any], rate: float | None) -> None:
        path = rate_path(document)
        offers = [
            Offer(self.tr("Continue"), self._ways.go_on),
            Offer(self.tr("Stop and keep"), self._ways.stop_and_keep),
        ]
        if path is not None:
            rate = float(get_at(document, path))

            def gentler() -> None:
                self._ways.set_value(path, rate / 10)
                self._ways.go_on()

            offers.insert(0, Offer(self.tr("lr / 10"), gentler))
        hint = self.tr("The run is paused; the last good weights are kept.")
        self._notices.post(Post("nan", "error", wording.nan_line(event.step, rate), hint, tuple(offers)))

    def _failed(self, event: e.RunFailed, document: dict[str, Any]) -> None:
        offers = []
        size = document.get("stages", [{}])[0].get("batch_size", 0)
        if event.error == "memory" and size > 1:

            def smaller() -> None:
                for i in range(len(document["stages"])):
                    self._ways.set_value(f"stages.{i}.batch_size", size // 2)
                self._ways.distill()

            offers.append(Offer(self.tr("Batch size {size}").format(size=size // 2), smaller))
        if event.resumable:
            offers.append(Offer(self.tr("Resume run"), lambda: self._ways.resume(event.run)))
        self._notices.post(Post("end", "error", event.message, event.hint, tuple(offers)))


def _is_quiet(event: e.Notice) -> bool:
    """Told elsewhere: with the pause that follows, or in the status line."""
    return event.code == "nan" or (event.code == "cache" and event.level == "info")


def rate_path(document: dict[str, Any]) -> str | None:
    """Where the first stage's learning rate stands, None where there is none."""
    path = "stages.0.optimizer.lr"
    try:
        return path if float(get_at(document, path)) > 0 else None
    except (KeyError, IndexError, ValueError, TypeError):
        return None


def newest_interrupted(store: Store) -> Interrupted | None:
    """The newest run, if it ended without a word and can be resumed. Reads its log: not for the GUI
    thread."""
    newest = store.newest()
    if newest is None or newest.status != "interrupted" or not newest.resumable:
        return None
    stages = newest.recipe.get("stages", [])
    before = 0
    epoch = None
    for event in store.open(newest.folder).events():
        if isinstance(event, e.CheckpointSaved):
            before = sum(int(stage.get("epochs", 0)) for stage in stages[: event.stage])
            epoch = before + event.epoch
    epochs = sum(int(stage.get("epochs", 0)) for stage in stages)
    return Interrupted(newest.name, newest.title, epoch, epochs)
