"""Turn knobs into a form: whatever a plug-in declares appears, is checked and explained, without an edit
here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QPushButton, QVBoxLayout, QWidget

from kd_engine.errors import Problem
from kd_engine.knobs import Knob
from kd_gui.forms.field import Field
from kd_gui.forms.fields import field_for
from kd_gui.state.draft import Draft
from kd_gui.theme import font
from kd_gui.theme.widgets import GAP


class Form(QWidget):
    """The settings of one part of a recipe. `edited(path, value, more)`: the user set one.

    knobs: what to show. values: by name. path: where they stand in the recipe, "" for its top. live_only:
    without those that cannot change while a run is going. Advanced ones are folded away behind a button.
    """

    edited = Signal(str, object, bool)

    def __init__(
        self,
        knobs: Sequence[Knob],
        values: Mapping[str, Any],
        path: str,
        live_only: bool = False,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.path = path
        self.fields: dict[str, Field] = {}
        shown = [knob for knob in knobs if knob.live or not live_only]
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(GAP)
        for knob in shown:
            if not knob.advanced:
                column.addWidget(self._field(knob))
        self._folded = QWidget(self)
        inner = QVBoxLayout(self._folded)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.setSpacing(GAP)
        for knob in shown:
            if knob.advanced:
                inner.addWidget(self._field(knob))
        self.more = QPushButton(self.tr("More settings"), self, checkable=True)
        self.more.setProperty("role", "section")
        self.more.setFont(font("caption"))
        self.more.toggled.connect(self._unfold)
        self.more.setVisible(inner.count() > 0)
        column.addWidget(self.more)
        column.addWidget(self._folded)
        self._folded.hide()
        self.set_values(values)

    def set_values(self, values: Mapping[str, Any]) -> None:
        """Show these; nothing is emitted. Names that are not here, and settings that `values` lacks, are
        left."""
        for name, field in self.fields.items():
            if name in values:
                field.set_value(values[name])

    def show_problems(self, problems: Iterable[Problem]) -> list[Problem]:
        """Show each at the setting that it concerns; returns those that found no setting here."""
        told: dict[str, str] = {}
        rest = []
        for problem in problems:
            name = self._name_of(problem.path)
            if name is None:
                rest.append(problem)
            else:
                told.setdefault(name, problem.message)
        for name, field in self.fields.items():
            field.set_problem(told.get(name, ""))
        if any(self.fields[name].knob.advanced for name in told):
            self.more.setChecked(True)
        return rest

    def bind(self, draft: Draft) -> Form:
        """Let edits go to the draft. The owner of the form keeps its values current."""
        self.edited.connect(lambda path, value, more: draft.set_value(path, value, more=more))
        return self

    def _field(self, knob: Knob) -> Field:
        field = field_for(knob)
        where = f"{self.path}.{knob.name}" if self.path else knob.name
        field.edited.connect(lambda value, more, where=where: self.edited.emit(where, value, more))
        self.fields[knob.name] = field
        return field

    def _name_of(self, path: str) -> str | None:
        start = f"{self.path}." if self.path else ""
        name = path.removeprefix(start)
        return name if path.startswith(start) and name in self.fields else None

    def _unfold(self, open_: bool) -> None:
        self._folded.setVisible(open_)
        self.more.setText(self.tr("Fewer settings") if open_ else self.tr("More settings"))
