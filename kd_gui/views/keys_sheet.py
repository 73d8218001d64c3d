"""All keys on one sheet, read from the actions themselves, so that it cannot be out of date."""

from __future__ import annotations

from PySide6.QtGui import QKeySequence
from PySide6.QtWidgets import QDialog, QGridLayout, QHBoxLayout, QLabel, QWidget

from kd_gui.actions import EDIT, FILE, HELP, RUN, SPECS, VIEW, Actions, translated
from kd_gui.theme import font
from kd_gui.theme.widgets import Text, Title


class KeysSheet(QDialog):
    """Groups of "what · key", in two columns."""

    def __init__(self, actions: Actions, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(self.tr("Keys"))
        self.setModal(True)
        self.rows: list[tuple[str, str]] = []
        columns = QHBoxLayout(self)
        columns.setContentsMargins(24, 20, 24, 20)
        columns.setSpacing(48)
        hands = [
            (self.tr("Zoom a curve"), self.tr("drag")),
            (self.tr("Fit a curve"), self.tr("double click")),
        ]
        hands += [(self.tr("Next picture"), "← →"), (self.tr("Swap the models"), self.tr("hold D"))]
        groups = [(translated(group), self._keys(group, actions)) for group in (RUN, FILE, EDIT, VIEW, HELP)]
        columns.addLayout(self._column([groups[0], (self.tr("In the panels"), hands)]))
        columns.addLayout(self._column(groups[1:]))

    def _keys(self, group: str, actions: Actions) -> list[tuple[str, str]]:
        rows = []
        for spec in SPECS:
            if spec.group == group and spec.keys:
                keys = [
                    QKeySequence(key).toString(QKeySequence.SequenceFormat.NativeText) for key in spec.keys
                ]
                keys += [self.tr("Enter")] if spec.name == "distill" else []
                rows.append((actions[spec.name].text().replace("&", "").rstrip("…"), "  ".join(keys)))
        return rows

    def _column(self, groups: list[tuple[str, list[tuple[str, str]]]]) -> QGridLayout:
        grid = QGridLayout()
        grid.setHorizontalSpacing(28)
        grid.setVerticalSpacing(7)
        for title, rows in groups:
            if grid.rowCount() > 1:
                grid.setRowMinimumHeight(grid.rowCount(), 10)
            grid.addWidget(Title(title, self), grid.rowCount(), 0, 1, 2)
            for what, keys in rows:
                shown = QLabel(keys, self)
                shown.setFont(font("text", bold=True))
                line = grid.rowCount()
                grid.addWidget(Text(what, parent=self), line, 0)
                grid.addWidget(shown, line, 1)
            self.rows += rows
        grid.setRowStretch(grid.rowCount(), 1)
        grid.setColumnStretch(0, 1)
        return grid
