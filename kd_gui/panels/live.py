"""The settings that may change while a run is going: temperature first, then weights and the learning rate.

An edit goes to the draft; while a run is going it is shown as on its way until the engine confirms or refuses
it.
"""

from __future__ import annotations

import re
from typing import Any

from PySide6.QtWidgets import QPushButton, QVBoxLayout, QWidget

from kd_engine.document import LiveKnob
from kd_engine.errors import Problem
from kd_gui.forms.field import Field
from kd_gui.forms.fields import field_for
from kd_gui.forms.pane import Slot
from kd_gui.forms.slider import SliderRow
from kd_gui.state.draft import Draft
from kd_gui.theme import font
from kd_gui.theme.widgets import GAP, Caption, Card, Title

MANY = 6  # with more rows than these, what only fine-tunes a method is folded away


class Fold(QWidget):
    """Rows behind a button that says how many they are."""

    def __init__(self, count: int, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.count = count
        self.button = QPushButton("", self, checkable=True)
        self.button.setProperty("role", "section")
        self.button.setFont(font("caption"))
        self.inside = QWidget(self)
        self._rows = QVBoxLayout(self.inside)
        self._rows.setContentsMargins(0, 0, 0, 0)
        self._rows.setSpacing(GAP - 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.button)
        column.addWidget(self.inside)
        self.button.toggled.connect(self._turn)
        self._turn(False)

    def add(self, row: Field) -> None:
        self._rows.addWidget(row)

    def open_for_problems(self) -> None:
        """A row that is wrong is seen."""
        if any(row.problem() for row in self.inside.findChildren(Field)):
            self.button.setChecked(True)

    def _turn(self, open_: bool) -> None:
        self.inside.setVisible(open_)
        few, many = self.tr("Fewer"), self.tr("{} more").format(self.count)
        self.button.setText(few if open_ else many)


class LivePanel(Card):
    """Sliders for every live setting of the draft."""

    def __init__(self, draft: Draft, parent: QWidget | None = None) -> None:
        super().__init__("", parent)
        self.set_title(self.tr("Live"))
        self._draft = draft
        self._running = False
        self._in_force: dict[str, Any] = {}
        self._refused: dict[str, str] = {}
        self.rows: dict[str, Field] = {}
        self.folds: list[Fold] = []
        self.hint = Caption()
        self.header.addWidget(self.hint)
        self._slot = Slot()
        self.body.addWidget(self._slot)
        self.empty = Caption(self.tr("What can be changed during a run appears here."))
        self.empty.setWordWrap(True)
        self.body.addWidget(self.empty)
        draft.changed.connect(self.refresh)
        draft.live_edited.connect(self._edited)
        self._say()
        self.refresh()

    def set_running(self, running: bool) -> None:
        """Whether a run is going that takes edits at its next step."""
        if running == self._running:
            return
        self._running = running
        self._in_force = {live.path: live.value for live in self._draft.live_knobs()} if running else {}
        self._refused.clear()
        for path in self.rows:
            self._set_pending(path, False)
        self._say()
        self.show_problems(self._draft.problems)

    def confirm(self, path: str, value: Any) -> None:
        """The engine took `value` (KnobChanged). A newer edit of the same setting stays on its way."""
        self._in_force[path] = value
        self._refused.pop(path, None)
        if path in self.rows and self._draft.value(path) == value:
            self._set_pending(path, False)
            self.rows[path].set_problem("")

    def refuse(self, path: str, why: str) -> None:
        """The engine did not take an edit (Refused): say why, and show what is in force instead."""
        if path not in self.rows:
            return
        self._set_pending(path, False)
        self._refused[path] = why
        if path in self._in_force:
            self._draft.correct(path, self._in_force[path])
        self.rows[path].set_problem(why)

    def pending(self) -> list[str]:
        """The paths of edits that the engine has not answered yet."""
        return [path for path, row in self.rows.items() if isinstance(row, SliderRow) and row.pending]

    def show_problems(self, problems: list[Problem]) -> None:
        """Problems of the draft at the sliders they concern; a refusal stays until the next edit."""
        told = {problem.path: problem.message for problem in reversed(problems)}
        for path, row in self.rows.items():
            row.set_problem(told.get(path) or self._refused.get(path, ""))
        for fold in self.folds:
            fold.open_for_problems()

    def refresh(self) -> None:
        """Show the draft as it is now; rows are made anew only when there are others."""
        found = self._draft.live_knobs()
        self.empty.setVisible(not found)
        if not found:
            self.rows, self.folds = {}, []
            self._slot.clear()
            return
        kinds = [stage["stage"] for stage in self._draft.document["stages"]]
        self._slot.fill(
            (kinds, [(live.path, live.owner, live.knob) for live in found]), lambda: self._column(found)
        )
        for live in found:
            self.rows[live.path].set_value(live.value)

    def _column(self, found: list[LiveKnob]) -> QWidget:
        made = QWidget()
        column = QVBoxLayout(made)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(GAP - 1)
        self.rows, self.folds = {}, []
        stages = sorted({_stage(live) for live in found})
        for stage in stages:
            here = [live for live in found if _stage(live) == stage]
            if len(stages) > 1:
                column.addSpacing(GAP if stage != stages[0] else 0)
                column.addWidget(Title(self._heading(stage)))
            self._stack(column, here, self.tr("stage {}").format(stage + 1) if len(stages) > 1 else "")
        return made

    def _stack(self, column: QVBoxLayout, found: list[LiveKnob], stage: str) -> None:
        """The rows of a stage; those that are rarely wanted behind a button."""
        labels, rare = self._labels(found), _rare(found)
        fold = Fold(len(rare))
        for live in found:
            row = field_for(live.knob, labels[live.path])
            row.edited.connect(lambda value, more, path=live.path: self._set(path, value, more))
            if stage and (control := row.focusProxy()) is not None:
                control.setAccessibleName(f"{labels[live.path]}, {stage}")
            self.rows[live.path] = row
            if live.path in rare:
                fold.add(row)
            else:
                column.addWidget(row)
        if rare:
            self.folds.append(fold)
            column.addWidget(fold)

    def _heading(self, stage: int) -> str:
        assert self._draft.catalog is not None
        kind = self._draft.catalog.entry("stages", self._draft.value(f"stages.{stage}.stage"))
        return f"{stage + 1} · {kind.title}"

    def _labels(self, found: list[LiveKnob]) -> dict[str, str]:
        """A weight is called by what it weighs; a name that occurs twice says whose it is."""
        own = [live.knob.label for live in found if live.knob.name != "weight"]
        labels = {}
        for live in found:
            owner = self._owner(live)
            if live.knob.name == "weight":
                labels[live.path] = re.sub(r"\s*\([^)]*\)$", "", owner)
            else:
                double = own.count(live.knob.label) > 1
                labels[live.path] = f"{_short(owner)} · {live.knob.label}" if double else live.knob.label
        return labels

    def _owner(self, live: LiveKnob) -> str:
        assert self._draft.catalog is not None
        for kind in ("methods", "stages", "optimizers"):
            if (entry := self._draft.catalog.find(kind, live.owner)) is not None:
                return entry.title
        return live.owner

    def _set(self, path: str, value: Any, more: bool) -> None:
        self._draft.set_value(path, value, more=more)

    def _edited(self, path: str, _value: Any) -> None:
        if self._running and path in self.rows:
            self._refused.pop(path, None)
            self._set_pending(path, True)

    def _set_pending(self, path: str, pending: bool) -> None:
        row = self.rows[path]
        if isinstance(row, SliderRow):
            row.set_pending(pending)

    def _say(self) -> None:
        running, idle = self.tr("applies at the next step"), self.tr("can change during a run")
        self.hint.setText(running if self._running else idle)


def _stage(live: LiveKnob) -> int:
    return int(live.path.split(".")[1])


def _short(title: str) -> str:
    """What stands in brackets at the end of a title, or else the title."""
    found = re.search(r"\(([^)]*)\)$", title)
    return found.group(1) if found else title


def _rare(found: list[LiveKnob]) -> set[str]:
    """The rows of a stage to fold away: advanced ones, and, where there are many, what methods have beside
    their weights and the first temperature."""
    rare = {live.path for live in found if live.knob.advanced}
    first = next((live.path for live in found if live.knob.name == "temperature"), "")
    fine = {
        live.path
        for live in found
        if ".methods." in live.path and live.knob.name != "weight" and live.path != first
    }
    return rare | fine if len(found) - len(rare) > MANY else rare


def demo() -> QWidget:
    """The example's live settings, one of them on its way to a run."""
    from kd_gui.state import example

    draft = Draft()
    draft.set_catalog(example.catalog())
    draft.load_document(example.document(), "example")
    panel = LivePanel(draft)
    draft.setParent(panel)
    panel.set_running(True)
    path = draft.temperature_path()
    assert path is not None
    draft.set_value(path, 8.0)
    panel.resize(264, panel.sizeHint().height())
    return panel


if __name__ == "__main__":
    from kd_gui.app import show_alone

    show_alone(demo)
