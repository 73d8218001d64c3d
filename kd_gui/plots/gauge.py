"""The retention gauge: how much of the teacher's accuracy the student keeps, on an arc that goes beyond all
of it."""

from __future__ import annotations

import math

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from kd_gui.theme import font, theme

FULL = 1.2  # where the arc ends: a student may beat its teacher
START, SWEEP = 207.0, 234.0  # degrees, clockwise from START
THICK = 12.0
ROOM = 12.0  # around the arc, for its marks


class Gauge(QWidget):
    """share: student over teacher; rival: a rival over the teacher. None where unknown."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.share: float | None = None
        self.rival: float | None = None
        self.rival_name = ""
        self.caption = ""
        self.setFont(font("caption"))
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        theme().changed.connect(self.update)

    def show_share(
        self, share: float | None, caption: str, rival: float | None = None, rival_name: str = ""
    ) -> None:
        self.share, self.caption, self.rival, self.rival_name = share, caption, rival, rival_name
        self.setAccessibleName(f"{self.figure()} {caption}")
        self.update()

    def figure(self) -> str:
        return "–" if self.share is None else f"{100 * self.share:.1f} %"

    def _circle(self) -> QRectF:
        side = self.width() - 2 * ROOM
        return QRectF(ROOM, ROOM, side, side)

    def _angle(self, share: float) -> float:
        return START - SWEEP * min(max(share / FULL, 0.0), 1.0)

    def _at(self, share: float, away: float) -> QPointF:
        circle, angle = self._circle(), math.radians(self._angle(share))
        radius = circle.width() / 2 + away
        centre = circle.center()
        return QPointF(centre.x() + radius * math.cos(angle), centre.y() - radius * math.sin(angle))

    def _arc(self, painter: QPainter, low: float, high: float, color: str) -> None:
        pen = QPen(QColor(color), THICK)
        pen.setCapStyle(Qt.PenCapStyle.FlatCap)
        painter.setPen(pen)
        first, last = self._angle(low), self._angle(high)
        painter.drawArc(self._circle(), round(first * 16), round((last - first) * 16))

    def _tick(self, painter: QPainter, share: float, color: str) -> None:
        painter.setPen(QPen(QColor(color), 2.5))
        painter.drawLine(self._at(share, -THICK / 2 - 4), self._at(share, THICK / 2 + 4))

    def _legend(self, painter: QPainter) -> None:
        """What the marks on the arc stand for, in the gap below it."""
        tokens, metrics = theme().tokens, QFontMetricsF(self.font())
        marks = [(tokens.teacher, self.tr("teacher"))]
        if self.rival is not None:
            marks.insert(0, (tokens.rival, f"{self.rival_name} {100 * self.rival:.1f} %"))
        wide = sum(metrics.horizontalAdvance(words) + 20 for _, words in marks) - 12
        x = (self.width() - wide) / 2
        top = self.height() - metrics.height() - 2
        for color, words in marks:
            painter.fillRect(QRectF(x, top + 2, 3, metrics.height() - 4), QColor(color))
            painter.setPen(QColor(tokens.muted))
            room = QRectF(x + 8, top, metrics.horizontalAdvance(words) + 2, metrics.height())
            painter.drawText(room, words)
            x += metrics.horizontalAdvance(words) + 20

    def set_width(self, width: int) -> None:
        self.setFixedSize(width, round(0.88 * width))

    def sizeHint(self) -> QSize:
        return QSize(190, 167)

    def minimumSizeHint(self) -> QSize:
        return self.sizeHint()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        tokens = theme().tokens
        self._arc(painter, 0.0, FULL, tokens.line)
        if self.share is not None and self.share > 0:
            self._arc(painter, 0.0, min(self.share, FULL), tokens.student)
        if self.rival is not None:
            self._tick(painter, self.rival, tokens.rival)
        self._tick(painter, 1.0, tokens.teacher)
        middle = self._circle().center()
        painter.setFont(font("figure"))
        painter.setPen(QColor(tokens.text if self.share is not None else tokens.faint))
        figure = QRectF(0, middle.y() - 24, self.width(), 30)
        painter.drawText(figure, int(Qt.AlignmentFlag.AlignCenter), self.figure())
        painter.setFont(self.font())
        painter.setPen(QColor(tokens.muted))
        below = QRectF(0, middle.y() + 6, self.width(), 34)
        flags = Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignTop | Qt.TextFlag.TextWordWrap
        painter.drawText(below.adjusted(30, 0, -30, 0), int(flags), self.caption)
        self._legend(painter)
        painter.end()
