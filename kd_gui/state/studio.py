"""What the window is about: one experiment, one run at a time, the store, and the phase that follows from
them.

The composition root of the state. Views call its slots and listen; the engine's messages come in through
`take`, on the GUI thread, and nothing here waits for anything."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, Signal

from kd_engine import commands as c
from kd_engine import events as e
from kd_engine.catalog import Catalog
from kd_engine.document import read_document
from kd_engine.errors import KdError
from kd_engine.events import Event
from kd_engine.remote import Answer, Gone, Message, Ready
from kd_engine.store import LAST, RunFolder, Store
from kd_gui.engine_thread import Engine, EngineThread
from kd_gui.state import phase as phases
from kd_gui.state.draft import Draft
from kd_gui.state.evaluation import Evaluation
from kd_gui.state.feed import Feed
from kd_gui.state.live_edits import LiveEdits
from kd_gui.state.notices import Notices
from kd_gui.state.phase import Phase
from kd_gui.state.questions import Questions
from kd_gui.state.runs import RunsModel
from kd_gui.state.samples import Samples
from kd_gui.state.show import Show
from kd_gui.state.tidings import Tidings, Ways

log = logging.getLogger(__name__)


class Studio(QObject):
    """live: name of the run in motion or of the last one, "" before any."""

    state_changed = Signal()  # the phase, what is shown, or a fact that an action needs
    text_tick = Signal()  # four times a second: words and figures may be read anew
    became_ready = Signal()
    ended = Signal()  # the live run has ended, one way or another
    export_wanted = Signal()
    evaluation_wanted = Signal()
    knob_confirmed = Signal(str, object)  # the live run took a value
    knob_refused = Signal(str, str)  # it did not, and why

    def __init__(self, engine: Engine, runs: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.phase = Phase.BOOT
        self.live = ""
        self.engine = engine
        self.store = Store(runs)
        self.draft = Draft(self)
        self.feed = Feed(self)
        self.samples = Samples(self)
        self.evaluation = Evaluation(self.feed, self.samples, self)
        self.runs = RunsModel(self.store, self)
        self.notices = Notices(self)
        self.tidings = Tidings(self.notices, self._ways(), self)
        self.questions = Questions(engine, self.draft, self.samples, self)
        self.questions.runs = runs
        self.show = Show(self.feed, self.samples, self)
        self.edits = LiveEdits(self.draft, engine.send, self)
        self._thread = EngineThread(engine, self.take, self)
        self._after_boot = Phase.READY
        self._last_time = 0.0  # of the last live event
        self._keep = True  # what the user wanted when asking for a stop
        self._rate: float | None = None  # the live run's last learning rate
        self._connect()

    def _connect(self) -> None:
        self._thread.text_tick.connect(self.text_tick)
        self.draft.changed.connect(self._experiment_changed)
        self.draft.facts_changed.connect(self._facts_changed)
        self.draft.live_edited.connect(self._live_edited)
        self.draft.trouble.connect(self._cannot_use)
        self.draft.history_changed.connect(self.state_changed)
        self.samples.wanted.connect(self._ask_probe)
        self.samples.trouble.connect(self._picture_trouble)
        self.questions.described.connect(self._described)
        self.questions.evaluated.connect(self.evaluation.take)
        self.questions.evaluation_failed.connect(self.evaluation.refuse)
        self.evaluation.wanted.connect(self._evaluate)
        self.state_changed.connect(lambda: self.evaluation.allow(self.can("evaluate")))
        self.runs.follow(self.feed)
        self.runs.trouble.connect(self.tidings.tell)
        self.show.changed.connect(self.state_changed)
        self.show.failed.connect(self.tidings.tell)

    def _ways(self) -> Ways:
        return Ways(
            set_value=lambda path, value: self.draft.set_value(path, value),
            distill=self.distill,
            go_on=self.go_on,
            stop_and_keep=self.stop_and_keep,
            resume=self.resume,
            export=self.export_wanted.emit,
            evaluate=self.evaluation_wanted.emit,
            start_engine=self._start_engine,
        )

    # ---- facts ---------------------------------------------------------------------------------------------
    def facts(self) -> frozenset[str]:
        """What `phase.enabled` wants to know beside the phase."""
        said = {
            phases.SOUND: self.draft.ready and not self.draft.problems,
            phases.WEIGHTS: self.has_weights(),
            phases.REPLAY: bool(self.show.stored),
            phases.UNDO: self.draft.undo_text is not None,
            phases.REDO: self.draft.redo_text is not None,
        }
        return frozenset(fact for fact, holds in said.items() if holds)

    def can(self, action: str) -> bool:
        return phases.enabled(action, self.phase, self.facts())

    @property
    def is_live(self) -> bool:
        return self.phase in phases.LIVE

    def folder(self) -> Path | None:
        """Of the run that the panels show; None when they show none."""
        name = self.show.stored or self.live
        return self.store.root / name if name else None

    def has_weights(self) -> bool:
        folder = self.folder()
        return folder is not None and (folder / LAST).is_file()

    # ---- life ----------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Wake the engine. After the window's first paint: the engine's process takes the machine's time."""
        self._thread.start()
        self._start_engine()
        self.runs.refresh()
        self.tidings.look_for_interrupted(self.store)

    def shut_down(self, *, detach: bool = False) -> None:
        """End everything that runs here. detach: a live run goes on in a process of its own."""
        self.show.forget()
        self.edits.end()
        self.questions.not_now()
        if detach:
            self.engine.detach()
            self.engine.leave()
        else:
            self.engine.close()
        self._thread.stop()

    def _start_engine(self) -> None:
        self.notices.withdraw("engine")
        self.engine.start()

    # ---- control -------------------------------------------------------------------------------------------
    def distill(self) -> None:
        """Run the experiment as it stands."""
        if self.can("distill"):
            self._begin()
            self.show.begin()
            self.engine.run(self.draft.document, self.store.root)

    def resume(self, name: str) -> None:
        """Go on with a stored run: its curves first, then the engine."""
        if self.can("resume"):
            self._begin()
            self.live = name
            self.show.live(
                self.store.root / name, None, then=lambda: self.engine.resume(name, self.store.root)
            )

    def _begin(self) -> None:
        self.questions.not_now()
        self.tidings.clear_run()
        self.live, self._rate = "", None
        self.phase = Phase.PREPARING
        self.state_changed.emit()

    def pause(self) -> None:
        if self.can("pause"):
            self.engine.send(c.Pause())

    def go_on(self) -> None:
        if self.can("go_on"):
            self.notices.withdraw("nan")
            self.edits.flush()
            self.engine.send(c.Continue())

    def step(self, unit: str) -> None:
        """One "batch" or "epoch" of a paused run."""
        if self.can(f"step_{unit}"):
            self.edits.flush()
            self.engine.send(c.StepOnce(unit))

    def stop_and_keep(self) -> None:
        if self.can("stop_and_keep"):
            self._stop(keep=True)

    def discard(self) -> None:
        if self.can("discard"):
            self._stop(keep=False)

    def _stop(self, *, keep: bool) -> None:
        self.notices.withdraw("nan")
        self._keep = keep
        self.engine.send(c.Stop(keep=keep))
        self.phase = Phase.STOPPING
        self.state_changed.emit()

    def look_at(self, name: str) -> None:
        """Show a stored run in the panels that show a live one."""
        if name == self.live:
            self.back()
        elif self.can("look_at"):
            self.show.run(self.store.root / name)

    def back(self) -> None:
        """From a stored run to the live or last one, or to the experiment when there is none."""
        if self.show.stored and self.live:
            self.show.live(self.store.root / self.live, self._last_time or None)
        elif self.show.stored:
            self._show_experiment()

    def delete_run(self, name: str) -> None:
        """Remove a stored run for good; asking first is the view's part."""
        try:
            RunFolder(self.store.root / name).delete()
        except KdError as error:
            self.tidings.tell(error)
            return
        shown = self.show.stored or self.live
        if name == self.live:
            self.live = ""
        if name == shown:
            self._show_experiment()
        self.runs.refresh()

    # ---- experiment ----------------------------------------------------------------------------------------
    def load_preset(self, name: str) -> None:
        if self.can("preset"):
            self._load(lambda: self.draft.load_preset(name))

    def open_recipe(self, name: str | Path) -> None:
        """A recipe file, or a preset by name."""
        if self.can("open_recipe"):
            self._load(lambda: self.draft.load_document(read_document(name), str(name)))

    def save_recipe(self, path: str) -> None:
        """The experiment as a file that `kd run` takes."""
        text = json.dumps(self.draft.document, indent=1) + "\n"
        try:
            Path(path).write_text(text, encoding="utf-8")
        except OSError as error:
            self.tidings.tell(KdError(f"{path}: cannot be written: {error.strerror}."), "draft")

    def open_run(self, folder: Path) -> None:
        """Look at a run by its folder; the folder that it lies in becomes the folder of runs."""
        if folder.parent != self.store.root:
            self.set_runs_folder(folder.parent)
        self.look_at(folder.name)

    def set_runs_folder(self, folder: Path) -> None:
        """Keep runs elsewhere from now on."""
        if self.can("open_runs"):
            self.store = Store(folder)
            self.questions.runs = folder
            self.runs.set_store(self.store)
            self.live = ""
            self._show_experiment()

    def _load(self, load: Callable[[], None]) -> None:
        try:
            load()
        except KdError as error:
            self.tidings.tell(error, "draft")
            return
        self.notices.withdraw("draft", "end")
        self.live = ""
        self._show_experiment()

    def _show_experiment(self) -> None:
        self.show.experiment(self.draft.preset)
        self.questions.describe_soon()

    def _experiment_changed(self, _path: str) -> None:
        self.samples.set_temperature(self.draft.temperature())
        if not self.is_live:
            self.questions.describe_soon()
        self._facts_changed()

    def _facts_changed(self) -> None:
        self.tidings.problems(self.draft.problems)
        self.state_changed.emit()

    def _live_edited(self, path: str, value: Any) -> None:
        if self.is_live:
            self.edits.edit(path, value)

    def _described(self, facts: dict[str, Any]) -> None:
        """The experiment's own pictures, unless a run's are on show."""
        if facts.get("samples") and not self.folder():
            self.show.pictures(Path(facts["samples"]))

    def _cannot_use(self, text: str) -> None:
        self.tidings.tell(KdError(text), "draft")

    def _picture_trouble(self, text: str) -> None:
        self.tidings.tell(KdError(text), "pictures")

    def _ask_probe(self, want: dict[str, Any]) -> None:
        live = self.is_live and not self.show.stored
        self.questions.probe(want, live=live, folder=self.folder())

    def _evaluate(self, robust: bool) -> None:
        folder = self.folder()
        if folder is not None:
            self.questions.evaluate(folder, robust)

    # ---- messages ------------------------------------------------------------------------------------------
    def take(self, messages: Sequence[Message]) -> None:
        """What the engine said, in order. Called on the GUI thread."""
        before, events = self.phase, []
        for message in messages:
            if isinstance(message, Event):
                self._follow(message)
                events.append(message)
            elif isinstance(message, Ready):
                self._ready(message)
            elif isinstance(message, Answer):
                self.questions.answer(message)
            elif isinstance(message, Gone):
                self._gone(message)
        self.show.take(events)
        if any(isinstance(event, e.ENDS) for event in events):
            self._after_end()
        if self.phase is not before:
            self.state_changed.emit()

    def _follow(self, event: Event) -> None:
        self._last_time = event.time
        self.phase = phases.after(self.phase, event)
        if isinstance(event, e.StepDone):
            self._rate = event.lr
            return
        self.edits.take(event)
        if isinstance(event, (e.RunStarted, e.RunResumed)):
            self.live = event.run
            self.runs.set_live(event.run)
            if self.phase is Phase.STOPPING:  # asked before there was a run that could hear it
                self.engine.send(c.Stop(keep=self._keep))
        elif isinstance(event, e.KnobChanged):
            self.knob_confirmed.emit(event.path, event.new)
        elif isinstance(event, e.Refused) and event.command == "SetKnob":
            self.knob_refused.emit(event.path, event.why)
        elif isinstance(event, e.RunDone):
            self.tidings.done(event.summary, self.draft.temperature(), self.draft.temperature_path())
        self.tidings.follow(event, self.edits.document, self._rate)
        if isinstance(event, e.RunStopped) and not event.kept:
            self.live = ""

    def _after_end(self) -> None:
        self.edits.end()
        self.runs.set_live("")
        self.runs.refresh()
        if not self.live and not self.show.stored:  # discarded
            self._show_experiment()
        self.questions.describe_soon()
        self.ended.emit()

    def _ready(self, message: Ready) -> None:
        if self.phase is Phase.BOOT:
            self.phase = self._after_boot
        self.notices.withdraw("engine")
        self.draft.set_catalog(Catalog.from_json(message.catalog))
        self.questions.wake()
        self.became_ready.emit()

    def _gone(self, message: Gone) -> None:
        """Start it again, unless it died before it could say anything: that would go on for ever."""
        again = self.phase is not Phase.BOOT
        self._after_boot = self.phase if self.phase in phases.ENDED else Phase.READY
        self.phase = Phase.BOOT
        self.questions.forget()
        self.tidings.engine_gone(message.reason, again=again)
        if again:
            self.engine.start()
