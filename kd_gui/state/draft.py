"""The experiment that is being set up: the only writer of its document, with undo, live edits and problems.

Views read `document`, listen to `changed`, and call `set_value` or `edit`; none keeps a value of its own.
Until a catalog is there, the document is as it was loaded; from then on every setting in it has a value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from PySide6.QtCore import QObject, Signal

from kd_engine.catalog import Catalog
from kd_engine.check import check
from kd_engine.document import LiveKnob, complete, get_at, live_knobs, preset_files, read_document
from kd_engine.errors import KdError, Problem, RecipeError
from kd_gui.state import edits
from kd_gui.state.edits import Document
from kd_gui.state.history import Change, History

NEUTRAL_TEMPERATURE = 4.0  # what the lens shows where no method has a temperature


@dataclass(frozen=True)
class _State:
    """Everything that undo goes back to. baseline: the document as loaded, for `reset`. preset: its name."""

    document: Document
    baseline: Document
    preset: str
    title: str


class Draft(QObject):
    """Signals: `changed(path)`, "" for everything; `live_edited(path, value)` when a live setting took
    another value by the user's doing; `history_changed` when another step, or none, can be undone or done
    again; `catalog_changed`; `facts_changed`; `trouble(message)` when what was
    remembered cannot be used with the catalog that came, and a preset stands in its place."""

    changed = Signal(str)
    live_edited = Signal(str, object)
    history_changed = Signal()
    catalog_changed = Signal()
    facts_changed = Signal()
    trouble = Signal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.catalog: Catalog | None = None
        self.facts: dict[str, Any] = {}
        self._state = _State({}, {}, "", "")
        self._found: list[Problem] | None = None
        self._history = History()

    @property
    def document(self) -> Document:
        """A copy, completed once there is a catalog; empty before anything was loaded."""
        return edits.copy(self._state.document)

    @property
    def preset(self) -> str:
        """The name that the document was loaded by."""
        return self._state.preset

    @property
    def title(self) -> str:
        """What the document is called."""
        return str(self._state.document.get("name") or self._state.title)

    @property
    def ready(self) -> bool:
        """Whether there is something to show in forms: a document and the catalog that explains it."""
        return self.catalog is not None and bool(self._state.document)

    @property
    def modified(self) -> bool:
        """Whether anything differs from the document as it was loaded."""
        return self._state.document != self._state.baseline

    def presets(self) -> dict[str, str]:
        """The bundled experiments, name to title, in the order to offer them."""
        return dict(self._presets)

    def note(self, preset: str) -> str:
        """What a bundled experiment is for, in a sentence."""
        return str(read_document(preset).get("note", ""))

    @cached_property
    def _presets(self) -> dict[str, str]:
        return {name: str(read_document(name).get("name") or name) for name in preset_files()}

    def value(self, path: str) -> Any:
        """The value at a dotted path. KeyError, IndexError or ValueError when there is no such place."""
        return get_at(self._state.document, path)

    def set_catalog(self, catalog: Catalog) -> None:
        """What exists, from the engine or its cache. The document is completed by it."""
        if self.catalog == catalog:
            return
        self.catalog = catalog
        self._found = None
        self.forget_history()  # its states were completed by another catalog, or by none
        if self._state.document:
            try:
                self._state = self._completed(self._state)
            except RecipeError as error:
                self._state = _State({}, {}, "", "")
                self._load_first_preset()
                self.trouble.emit(str(error))
        self.catalog_changed.emit()
        self.changed.emit("")

    def load_preset(self, name: str) -> None:
        """A bundled experiment. Can be undone. RecipeError when there is none of that name."""
        self.load_document(read_document(name), name)

    def load_document(self, document: Mapping[str, Any], name: str) -> None:
        """A document from a file, a run or the last session. Can be undone, unless it is the first.
        RecipeError, and nothing is changed, when it names something that does not exist; a value out of range
        is loaded, as a problem. `name`: what it was loaded by; for a preset's name, `reset` goes back to that
        preset."""
        raw = edits.copy(document)
        baseline = read_document(name) if name in preset_files() else raw
        state = self._completed(_State(raw, baseline, name, str(raw.get("name") or name)))
        if not self._state.document:
            self._adopt(state, "")
        elif state != self._state:
            self._push(self.tr("Load {}").format(state.title), state, "")

    def set_value(self, path: str, value: Any, *, more: bool = False) -> None:
        """Set one value. more: this goes on with the same gesture (a drag), and undo takes both back as
        one."""
        if self.value(path) == value and type(self.value(path)) is type(value):
            return
        document = edits.with_value(self._state.document, path, value)
        self._push(self.tr("Change {}").format(_words(path)), self._with(document), path, more=more)

    def edit(self, text: str, document: Document) -> None:
        """Another document altogether, as made by kd_gui.state.edits. `text` is what undo is called."""
        state = self._completed(self._with(document))
        if state.document != self._state.document:
            self._push(text, state, "")

    def correct(self, path: str, value: Any) -> None:
        """Put a value back that the engine did not take. Not an edit of the user's: no undo step, nothing
        sent."""
        if self.value(path) != value:
            self._state = self._with(edits.with_value(self._state.document, path, value))
            self._tell(path)

    def reset(self) -> None:
        """Back to the document as it was loaded; can be undone."""
        if self.modified:
            state = self._completed(self._with(self._state.baseline))
            self._push(self.tr("Reset to {}").format(self._state.title), state, "")

    @property
    def steps(self) -> int:
        """How many changes are remembered, those that were undone with them."""
        return len(self._history)

    @property
    def undo_text(self) -> str | None:
        """What `undo` would take back, None for nothing."""
        return self._history.undo_text

    @property
    def redo_text(self) -> str | None:
        """What `redo` would do again, None for nothing."""
        return self._history.redo_text

    def undo(self) -> None:
        """Take the last change back, if there is one."""
        with self._telling_history():
            if (change := self._history.back()) is not None:
                self._adopt(change.old, change.path)

    def redo(self) -> None:
        """Make the change again that was taken back last, if there is one."""
        with self._telling_history():
            if (change := self._history.forth()) is not None:
                self._adopt(change.new, change.path)

    def forget_history(self) -> None:
        """Nothing from before can be undone."""
        with self._telling_history():
            self._history.clear()

    def live_knobs(self) -> list[LiveKnob]:
        """Every setting that may change while a run is going, with its value now; a temperature stands
        first."""
        if self.catalog is None or not self.ready:
            return []
        found = live_knobs(self._state.document, self.catalog)
        return sorted(found, key=lambda live: live.knob.name != "temperature")

    def temperature_path(self) -> str | None:
        """Where the temperature stands, or None where no method has one."""
        return next((k.path for k in self.live_knobs() if k.knob.name == "temperature"), None)

    def temperature(self) -> float:
        path = self.temperature_path()
        return NEUTRAL_TEMPERATURE if path is None else float(self.value(path))

    @property
    def problems(self) -> list[Problem]:
        """Everything wrong with the document: what shows at once, then what the engine found with data at
        hand."""
        if self.catalog is None or not self.ready:
            return []
        if self._found is None:
            self._found = check(self._state.document, self.catalog)
        told = [Problem(p["path"], p["message"]) for p in self.facts.get("problems", ())]
        return [*self._found, *(problem for problem in told if problem not in self._found)]

    def refusals(self, stage: int) -> dict[str, str]:
        """Methods that cannot work between the models of a stage, and why, as far as the engine has told."""
        told = self.facts.get("methods", ())
        return dict(told[stage]) if stage < len(told) else {}

    def set_facts(self, facts: Mapping[str, Any]) -> None:
        """What the engine says about this document (its answer to "describe")."""
        self.facts = dict(facts)
        self.facts_changed.emit()

    def _load_first_preset(self) -> None:
        """The first that this catalog can run; nothing is loaded when it can run none."""
        for name in preset_files():
            try:
                self.load_preset(name)
            except RecipeError:
                continue  # it names a plug-in that is broken here; the catalog lists it as such
            return

    def _with(self, document: Document) -> _State:
        old = self._state
        return _State(document, old.baseline, old.preset, old.title)

    def _completed(self, state: _State) -> _State:
        if self.catalog is None:
            return state
        return _State(
            _complete(state.document, self.catalog),
            _complete(state.baseline, self.catalog),
            state.preset,
            state.title,
        )

    def _push(self, text: str, state: _State, path: str, *, more: bool = False) -> None:
        with self._telling_history():
            self._history.add(Change(text, self._state, state, path, more))
            self._adopt(state, path)

    @contextmanager
    def _telling_history(self) -> Iterator[None]:
        """Tell at its end if another step can be undone or done again."""
        before = (self.undo_text, self.redo_text)
        yield
        if (self.undo_text, self.redo_text) != before:
            self.history_changed.emit()

    def _adopt(self, state: _State, path: str) -> None:
        before = {(k.path, k.owner): k.value for k in self.live_knobs()}
        self._forget_facts(state.document)
        self._state = state
        self._tell(path)
        after = {(k.path, k.owner): k.value for k in self.live_knobs()}
        if before.keys() == after.keys():  # else the places mean something else than in a run that is going
            for (place, _owner), value in after.items():
                if before[place, _owner] != value:
                    self.live_edited.emit(place, value)

    def _forget_facts(self, new: Document) -> None:
        """Drop what the engine said about parts that are others now; it will be asked again."""
        old = self._state.document
        changed = [part for part in ("teacher", "student", "data") if old.get(part) != new.get(part)]
        if changed or _meetings(old) != _meetings(new):
            changed.append("methods")
        if changed or old.get("stages") != new.get("stages"):
            changed.append("problems")
        self.facts = {part: fact for part, fact in self.facts.items() if part not in changed}

    def _tell(self, path: str) -> None:
        self._found = None
        self.changed.emit(path)


def _complete(document: Document, catalog: Catalog) -> Document:
    """RecipeError with every problem when the document names something that the catalog does not have."""
    try:
        return complete(document, catalog)
    except (KdError, KeyError, TypeError, AttributeError, ValueError):
        problems = check(document, catalog)
        if not problems:
            raise
        raise RecipeError(problems) from None


def _meetings(document: Document) -> list[Any]:
    """Who learns from whom, stage by stage."""
    stages = document.get("stages", ())
    return [
        document.get("more_teachers"),
        *([s.get(k) for k in ("stage", "student", "taught_by")] for s in stages),
    ]


def _words(path: str) -> str:
    return path.rsplit(".", 1)[-1].replace("_", " ")
