"""All keys on one sheet, read from the actions themselves, so that it cannot be out of date."""

from __future__ import annotations

from PySide6.QtGui import QKeySequence
from PySide6.QtWidgets import QDialog, QGridLayout, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from kd_gui.actions import SPECS, Actions, translated
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
        columns.setSpacing(40)
        left, right = QVBoxLayout(), QVBoxLayout()
        columns.addLayout(left)
        columns.addLayout(right)
        groups = dict.fromkeys(spec.group for spec in SPECS)
        for i, group in enumerate(groups):
            self._group(group, actions, left if i == 0 else right)
        hands = [
            (self.tr("Zoom a curve"), self.tr("drag")),
            (self.tr("Fit a curve"), self.tr("double click")),
        ]
        hands += [(self.tr("Next picture"), "← →"), (self.tr("Blink the difference"), self.tr("hold D"))]
        self._block(self.tr("In the panels"), hands, left)
        left.addStretch(1)
        right.addStretch(1)

    def _group(self, group: str, actions: Actions, column: QVBoxLayout) -> None:
        rows = []
        for spec in SPECS:
            if spec.group == group and spec.keys:
                keys = [
                    QKeySequence(key).toString(QKeySequence.SequenceFormat.NativeText) for key in spec.keys
                ]
                keys += [self.tr("Enter")] if spec.name == "distill" else []
                rows.append((actions[spec.name].text().replace("&", "").rstrip("…"), "  ".join(keys)))
        self._block(translated(group), rows, column)

    def _block(self, title: str, rows: list[tuple[str, str]], column: QVBoxLayout) -> None:
        column.addWidget(Title(title, self))
        grid = QGridLayout()
        grid.setHorizontalSpacing(24)
        grid.setVerticalSpacing(6)
        for i, (what, keys) in enumerate(rows):
            shown = QLabel(keys, self)
            shown.setFont(font("text", bold=True))
            grid.addWidget(Text(what, parent=self), i, 0)
            grid.addWidget(shown, i, 1)
        grid.setColumnStretch(0, 1)
        column.addLayout(grid)
        column.addSpacing(14)
        self.rows += rows
