"""Horizontal bars for probabilities: a class a row, on one fixed scale from 0 to 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFontMetrics, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from kd_gui.theme import font, theme

_ROW, _LEAST_ROW, _BAR = 19, 15, 9  # heights: of a row, of one where room is short, of a bar
_NAMES, _VALUE = (36, 96), 38  # the columns: of the names, at least and at most; of the values
_GAP = 8


class ClassBars(QWidget):
    """Bars in the colour of whoever speaks, names left and figures at the bars' ends. Even bars end at a
    fine line."""

    def __init__(
        self, who: Literal["teacher", "student"], rows: int = 5, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._who, self._count = who, rows
        self._names: list[str] = []
        self._values: list[float] = []
        self._marked = -1
        self._even: float | None = None
        self._empty = ""
        self._column = _NAMES[1]
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self.setMaximumHeight(rows * _ROW)
        theme().changed.connect(self.update)

    def set_vocabulary(self, names: Sequence[str]) -> None:
        """All names that may come: the column of names is made as wide as they need, within limits."""
        metrics = QFontMetrics(font("text"))
        widest = max((metrics.horizontalAdvance(name) for name in names), default=_NAMES[0])
        self._column = min(max(widest + 2, _NAMES[0]), _NAMES[1])
        self.update()

    def set_rows(
        self, names: Sequence[str], values: Sequence[float], *, marked: int = -1, even: float | None = None
    ) -> None:
        """values: 0 to 1. marked: the row of the true class. even: what every class would get if all were
        alike."""
        self._names, self._values = list(names), [float(value) for value in values]
        self._marked, self._even = marked, even
        self.setAccessibleDescription(
            ", ".join(f"{name} {value:.2f}" for name, value in zip(self._names, self._values, strict=True))
        )
        self.update()

    def set_empty(self, words: str) -> None:
        """No rows; say what will be here."""
        self._names, self._values, self._empty = [], [], words
        self.setAccessibleDescription(words)
        self.update()

    def _paint_row(self, painter: QPainter, row: int, room: float) -> None:
        tokens = theme().tokens
        height = self.height() / self._count
        top, value, marked = row * height, self._values[row], row == self._marked
        painter.setFont(font("text"))
        painter.setPen(QColor(tokens.text if marked else tokens.muted))
        name = QFontMetrics(painter.font()).elidedText(
            self._names[row], Qt.TextElideMode.ElideRight, self._column
        )
        middle = Qt.AlignmentFlag.AlignVCenter
        painter.drawText(
            QRectF(0, top, self._column, height), int(middle | Qt.AlignmentFlag.AlignRight), name
        )
        bar = QRectF(self._column + _GAP, top + (height - _BAR) / 2, max(2.0, value * room), _BAR)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(tokens.teacher if self._who == "teacher" else tokens.student))
        painter.drawRoundedRect(bar, 2, 2)
        painter.setPen(QColor(tokens.text))
        painter.drawText(QRectF(bar.right() + _GAP, top, _VALUE, height), int(middle), f"{value:.2f}")

    def sizeHint(self) -> QSize:
        return QSize(372, self._count * _ROW)

    def minimumSizeHint(self) -> QSize:
        return QSize(_NAMES[1] + _GAP + 60 + _VALUE, self._count * _LEAST_ROW)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        tokens = theme().tokens
        room = self.width() - self._column - 2 * _GAP - _VALUE
        if not self._values:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(tokens.field))
            painter.drawRoundedRect(QRectF(self.rect()), 6, 6)
            painter.setFont(font("caption"))
            painter.setPen(QColor(tokens.muted))
            flags = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
            painter.drawText(self.rect().adjusted(16, 4, -16, -4), int(flags), self._empty)
        elif self._even is not None:
            x = round(self._column + _GAP + self._even * room) + 0.5
            painter.setPen(QPen(QColor(tokens.line), 1))
            painter.drawLine(QPointF(x, 1), QPointF(x, self.height() * len(self._values) / self._count - 1))
        for row in range(len(self._values)):
            self._paint_row(painter, row, room)
        painter.end()
