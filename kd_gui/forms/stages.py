"""The stages of an experiment, one after the other: what kind each is, and whether it trains a model of its
own."""

from __future__ import annotations

from typing import Any

from PySide6.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from kd_gui.forms.field import QuietCombo
from kd_gui.forms.pane import Pane, Slot
from kd_gui.forms.switch import Switch
from kd_gui.state import edits
from kd_gui.state.draft import Draft
from kd_gui.theme.widgets import GAP, Caption, Elided, IconButton, Text


class StageRow(QWidget):
    """A stage: its number, its kind, whether it trains an assistant, and a button that removes it."""

    def __init__(self, draft: Draft, index: int, count: int, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.draft, self.index = draft, index
        self.kind = QuietCombo()
        self.kind.setAccessibleName(self.tr("Kind of stage {}").format(index + 1))
        assert draft.catalog is not None
        for entry in draft.catalog.of("stages"):
            self.kind.addItem(entry.title, entry.name)
        self.kind.activated.connect(self._choose)
        self.remove = IconButton("close", self.tr("Remove stage {}").format(index + 1))
        self.remove.setVisible(count > 1)
        self.remove.clicked.connect(self._take_away)
        self.assistant = Switch()
        self.assistant.setAccessibleName(self.tr("Stage {} trains an assistant").format(index + 1))
        self.assistant.clicked.connect(self._turn)
        self.about = Caption()
        self.about.setWordWrap(True)
        self._lay_out(count)

    def refresh(self) -> None:
        catalog = self.draft.catalog
        assert catalog is not None
        stage: dict[str, Any] = self.draft.value(f"stages.{self.index}")
        self.kind.setCurrentIndex(self.kind.findData(stage["stage"]))
        self.assistant.setChecked(stage.get("student") is not None)
        self.about.setText(catalog.entry("stages", stage["stage"]).help)

    def _lay_out(self, count: int) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        head = QHBoxLayout()
        head.setSpacing(GAP)
        head.addWidget(Text(str(self.index + 1), "muted"))
        head.addWidget(self.kind, 1)
        head.addWidget(self.remove)
        column.addLayout(head)
        column.addWidget(self.about)
        if self.index + 1 < count:
            line = QHBoxLayout()
            words = Elided(self.tr("Trains an assistant"))
            tip = self.tr("A model of this stage's own, which then teaches the stage after it.")
            self.assistant.setToolTip(tip)
            line.addWidget(words, 1)
            line.addWidget(self.assistant)
            column.addLayout(line)
        else:
            self.assistant.setParent(self)
            self.assistant.hide()

    def _choose(self, index: int) -> None:
        kind, catalog = self.kind.itemData(index), self.draft.catalog
        assert catalog is not None
        if kind != self.draft.value(f"stages.{self.index}.stage"):
            changed = edits.with_stage_kind(self.draft.document, self.index, kind, catalog)
            self.draft.edit(self.tr("Change stage {}").format(self.index + 1), changed)

    def _take_away(self) -> None:
        changed = edits.without_stage(self.draft.document, self.index)
        self.draft.edit(self.tr("Remove stage {}").format(self.index + 1), changed)

    def _turn(self, on: bool) -> None:
        changed = edits.with_assistant(self.draft.document, self.index, on)
        words = self.tr("Add an assistant") if on else self.tr("Remove the assistant")
        self.draft.edit(words, changed)


class StagesPane(Pane):
    """All stages in order, and the button that adds one at the end."""

    def __init__(self, draft: Draft, parent: QWidget | None = None) -> None:
        super().__init__(draft, parent)
        self.rows: list[StageRow] = []
        self._slot = Slot()
        self.adding = QPushButton(self.tr("Add a stage"))
        self.adding.setToolTip(self.tr("One more at the end, set as the last one is."))
        self.adding.clicked.connect(self._add)
        self.column.addWidget(self._slot)
        self.column.addWidget(self.adding)
        self.refresh()

    def refresh(self) -> None:
        count = len(self.draft.document["stages"])
        self._slot.fill(count, lambda: self._list(count))
        for row in self.rows:
            row.refresh()

    def _list(self, count: int) -> QWidget:
        made = QWidget()
        column = QVBoxLayout(made)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(GAP)
        self.rows = [StageRow(self.draft, i, count) for i in range(count)]
        for row in self.rows:
            column.addWidget(row)
        return made

    def _add(self) -> None:
        self.draft.edit(self.tr("Add a stage"), edits.with_stage(self.draft.document))
