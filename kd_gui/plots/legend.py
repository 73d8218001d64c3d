"""Which line is which: a row of chips that hide and show; with Shift, one alone."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtCore import QPointF, QSize, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QFontMetrics,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QResizeEvent,
)
from PySide6.QtWidgets import QAbstractButton, QHBoxLayout, QWidget

from kd_gui.theme import font, theme
from kd_gui.theme.widgets import Caption

SAMPLE = 16  # length of the piece of line
ROOM = 6  # between it and the words


@dataclass(frozen=True)
class Entry:
    """color: "#RRGGBB". shown: whether its line is."""

    key: str
    title: str
    color: str
    dash: Qt.PenStyle
    shown: bool


class Chip(QAbstractButton):
    """A piece of the line and its name. `alone`: it was clicked with Shift."""

    alone = Signal()

    def __init__(self, entry: Entry, parent: QWidget) -> None:
        super().__init__(parent)
        self.setFont(font("caption"))
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.set_entry(entry)

    def set_entry(self, entry: Entry) -> None:
        self.entry = entry
        self.setText(entry.title)
        self.setToolTip(
            self.tr("{name}. Click: hide or show. Shift-click: this one alone.").format(name=entry.title)
        )
        state = self.tr("shown") if entry.shown else self.tr("hidden")
        self.setAccessibleName(f"{entry.title}, {state}")
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        metrics = QFontMetrics(self.font())
        return QSize(SAMPLE + ROOM + metrics.horizontalAdvance(self.text()) + 2, metrics.height() + 4)

    def minimumSizeHint(self) -> QSize:
        return QSize(SAMPLE + ROOM + 20, self.sizeHint().height())

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if event.modifiers() & Qt.KeyboardModifier.ShiftModifier and self.rect().contains(
            event.position().toPoint()
        ):
            self.setDown(False)
            self.alone.emit()
            return
        super().mouseReleaseEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Space and event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
            self.alone.emit()
            return
        super().keyPressEvent(event)

    def paintEvent(self, event: QPaintEvent) -> None:
        tokens = theme().tokens
        color = QColor(self.entry.color if self.entry.shown else tokens.faint)
        painter = QPainter(self)
        middle = self.height() / 2
        pen = QPen(color, 2.0, self.entry.dash)
        pen.setCapStyle(Qt.PenCapStyle.FlatCap)
        painter.setPen(pen)
        painter.drawLine(QPointF(0, middle), QPointF(SAMPLE, middle))
        lit = self.underMouse() or self.hasFocus()
        painter.setPen(QColor(tokens.text) if lit and self.entry.shown else color)
        words = self.rect().adjusted(SAMPLE + ROOM, 0, 0, 0)
        shown = QFontMetrics(self.font()).elidedText(self.text(), Qt.TextElideMode.ElideRight, words.width())
        painter.drawText(words, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, shown)
        painter.end()


WIDE, NARROW = 14, 6  # between chips


class Legend(QWidget):
    """The chips. `toggled(key)`: hide or show; `alone(key)`: this one alone, or all again."""

    toggled = Signal(str)
    alone = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._chips: dict[str, Chip] = {}
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(0, 0, 0, 0)
        self._row.setSpacing(WIDE)
        self._row.addStretch(1)
        self._unit = Caption("", "faint")
        self._row.addWidget(self._unit)

    def minimumSizeHint(self) -> QSize:
        chips = [chip.sizeHint().width() for chip in self._chips.values()]
        return QSize(sum(chips) + NARROW * max(len(chips) - 1, 0), super().minimumSizeHint().height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Where it is narrow, chips stand closer and the unit goes without saying."""
        super().resizeEvent(event)
        chips = [chip.sizeHint().width() for chip in self._chips.values()]
        needed = sum(chips) + WIDE * (len(chips) + 1) + self._unit.sizeHint().width()
        narrow = event.size().width() < needed
        self._row.setSpacing(NARROW if narrow else WIDE)
        self._unit.setVisible(not narrow)

    def set_unit(self, unit: str) -> None:
        """What the axis above counts, at the right end of the row."""
        self._unit.setText(unit)

    def chip(self, key: str) -> Chip:
        return self._chips[key]

    def show_entries(self, entries: list[Entry]) -> None:
        """Chips for these, in this order; those that stay are kept."""
        keys = [entry.key for entry in entries]
        for key in [key for key in self._chips if key not in keys]:
            chip = self._chips.pop(key)
            self._row.removeWidget(chip)
            chip.hide()
            chip.deleteLater()
        for i, entry in enumerate(entries):
            chip = self._chips.get(entry.key) or self._add(entry)
            if chip.entry != entry:
                chip.set_entry(entry)
            if self._row.indexOf(chip) != i:
                self._row.insertWidget(i, chip)

    def _add(self, entry: Entry) -> Chip:
        chip = Chip(entry, self)
        chip.clicked.connect(lambda _checked=False, key=entry.key: self.toggled.emit(key))
        chip.alone.connect(lambda key=entry.key: self.alone.emit(key))
        self._chips[entry.key] = chip
        return chip
