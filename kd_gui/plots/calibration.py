"""How often models are right when they are so and so sure: accuracy over confidence, and how many samples lie
where.

On the diagonal a model is as right as it is sure. Points grow with the samples behind them and carry the
interval that so few samples leave open; where there are hardly any, a hollow point is all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QMouseEvent, QPainter, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QSizePolicy, QWidget

from kd_gui.state.measures import Bins
from kd_gui.theme import font, series_style, theme

LEFT, BOTTOM, TOP, RIGHT = 34.0, 18.0, 4.0, 8.0
COUNTS = 44.0  # the height of the strip of counts
BETWEEN = 10.0
MARKER = 3.0, 7.0  # radii
FEW = 0.02  # a share of the samples: points of fewer are hollow, without a line and an interval


@dataclass(frozen=True, eq=False)
class Line:
    """name: in words; role: "teacher", "student" or a rival's name, for colour, dash and marker."""

    name: str
    role: str
    bins: Bins


class CalibrationPlot(QWidget):
    """The teacher has squares on a dashed line, everybody else circles on a solid one."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setMouseTracking(True)
        self.setFont(font("caption"))
        self.setAccessibleName(self.tr("Accuracy over confidence"))
        self.lines: tuple[Line, ...] = ()
        self._pointed = -1  # a bin
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        theme().changed.connect(self.update)

    def show_lines(self, lines: Sequence[Line]) -> None:
        """At most a few; all with the same bins."""
        self.lines = tuple(lines)
        self._pointed = -1
        self.update()

    def area(self) -> QRectF:
        """Where 0 to 100 % lie, both ways."""
        height = self.height() - TOP - BETWEEN - COUNTS - BOTTOM
        return QRectF(LEFT, TOP, max(self.width() - LEFT - RIGHT, 1), max(height, 1))

    def place(self, confidence: float, accuracy: float) -> QPointF:
        area = self.area()
        return QPointF(area.left() + confidence * area.width(), area.bottom() - accuracy * area.height())

    def point_at(self, at: int) -> None:
        """A bin by number, -1 for none."""
        if at != self._pointed:
            self._pointed = at
            self.update()

    def read_out(self) -> str:
        """What is known of the bin that is pointed at; "" without one."""
        if self._pointed < 0 or not self.lines:
            return ""
        bins = self.lines[0].bins
        low, high = 100 * bins.low[self._pointed], 100 * bins.high[self._pointed]
        said = [self.tr("{low}–{high} % sure").format(low=f"{low:.0f}", high=f"{high:.0f}")]
        for line in self.lines:
            count, right = int(line.bins.count[self._pointed]), line.bins.accuracy[self._pointed]
            if count:
                words = self.tr("{name} right in {share} % of {count}")
                said.append(words.format(name=line.name, share=f"{100 * right:.0f}", count=count))
            else:
                said.append(self.tr("{name} never").format(name=line.name))
        return " · ".join(said)

    # ---- drawing -------------------------------------------------------------------------------------------
    def _draw_frame(self, painter: QPainter) -> None:
        tokens, area = theme().tokens, self.area()
        if self._pointed >= 0 and self.lines:
            bins = self.lines[0].bins
            low, high = bins.low[self._pointed], bins.high[self._pointed]
            band = QRectF(self.place(low, 1.0), QPointF(self.place(high, 0).x(), self._strip().bottom()))
            painter.fillRect(band, QColor(tokens.field))
        for share in (0.0, 0.5, 1.0):
            painter.setPen(QPen(QColor(tokens.line), 1))
            painter.drawLine(self.place(0, share), self.place(1, share))
            painter.setPen(QColor(tokens.muted))
            middle = self.place(0, share).y()
            flags = int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            painter.drawText(QRectF(0, middle - 8, LEFT - 6, 16), flags, f"{100 * share:.0f}")
        painter.setPen(QPen(QColor(tokens.faint), 1, Qt.PenStyle.DotLine))
        painter.drawLine(self.place(0, 0), self.place(1, 1))
        painter.setPen(QColor(tokens.faint))
        here = int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        painter.drawText(area.adjusted(8, 4, 0, 0), here, self.tr("too modest"))
        there = int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignBottom)
        painter.drawText(area.adjusted(0, 0, -4, -4), there, self.tr("too sure"))

    def _strip(self) -> QRectF:
        area = self.area()
        return QRectF(area.left(), area.bottom() + BETWEEN, area.width(), COUNTS)

    def _draw_counts(self, painter: QPainter) -> None:
        """Side by side in each bin: where the samples lie."""
        tokens, strip = theme().tokens, self._strip()
        most = max(
            (float((line.bins.count / max(line.bins.count.sum(), 1)).max()) for line in self.lines), default=1
        )
        painter.setPen(Qt.PenStyle.NoPen)
        for i, line in enumerate(self.lines):
            shares = line.bins.count / max(line.bins.count.sum(), 1)
            painter.setBrush(QColor(series_style(line.role)[0]))
            for low, high, share in zip(line.bins.low, line.bins.high, shares, strict=True):
                if share <= 0:
                    continue
                width = (high - low) * strip.width() - 4
                left = strip.left() + low * strip.width() + 2 + i * width / len(self.lines)
                tall = max(share / (most or 1) * strip.height(), 1.5)
                painter.drawRect(QRectF(left, strip.bottom() - tall, width / len(self.lines) - 1, tall))
        painter.setPen(QPen(QColor(tokens.line), 1))
        painter.drawLine(strip.bottomLeft(), strip.bottomRight())
        painter.setPen(QColor(tokens.muted))
        below = strip.bottom() + 3
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            x = self.place(share, 0).x()
            metrics = QFontMetricsF(self.font())
            text = f"{100 * share:.0f}"
            half = metrics.horizontalAdvance(text) / 2
            x = min(max(x, half), self.width() - half)
            painter.drawText(QRectF(x - 20, below, 40, 14), int(Qt.AlignmentFlag.AlignCenter), text)
        painter.setPen(QColor(tokens.faint))
        flags = int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        painter.drawText(strip.adjusted(8, 0, 0, 0), flags, self.tr("share of the images"))

    def _draw_line(self, painter: QPainter, line: Line) -> None:
        tokens, bins = theme().tokens, line.bins
        color, dash = series_style(line.role)
        there = np.flatnonzero(bins.count > 0)
        points = [self.place(bins.confidence[i], bins.accuracy[i]) for i in there]
        low, high = bins.interval()
        pale = QColor(color)
        pale.setAlphaF(0.35)
        painter.setPen(QPen(pale, 1.5))
        total = max(bins.count.sum(), 1)
        many = [i for i in there if bins.count[i] / total >= FEW]
        for i in many:
            x = bins.confidence[i]
            painter.drawLine(self.place(x, max(low[i], 0)), self.place(x, min(high[i], 1)))
        pale.setAlphaF(0.6)
        painter.setPen(QPen(pale, 1.5, dash))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawPolyline(QPolygonF([self.place(bins.confidence[i], bins.accuracy[i]) for i in many]))
        for i, point in zip(there, points, strict=True):
            share = bins.count[i] / total
            radius = MARKER[0] + (MARKER[1] - MARKER[0]) * float(np.sqrt(share))
            few = share < FEW  # hollow and pale: hardly any samples
            painter.setPen(QPen(pale if few else QColor(color), 1.5))
            painter.setBrush(QColor(tokens.surface if few else color))
            if line.role == "teacher":
                painter.drawRect(QRectF(point.x() - radius, point.y() - radius, 2 * radius, 2 * radius))
            else:
                painter.drawEllipse(point, radius, radius)

    # ---- Qt ------------------------------------------------------------------------------------------------
    def sizeHint(self) -> QSize:
        return QSize(540, 280)

    def minimumSizeHint(self) -> QSize:
        return QSize(220, 170)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        area = self.area()
        share = (event.position().x() - area.left()) / area.width()
        bins = self.lines[0].bins if self.lines else None
        at = -1
        if bins is not None and 0 <= share <= 1:
            at = min(int(np.searchsorted(bins.high, share)), len(bins.high) - 1)
        self.point_at(at)
        self.setToolTip(self.read_out())

    def leaveEvent(self, event: QEvent) -> None:
        self.point_at(-1)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self._draw_frame(painter)
        self._draw_counts(painter)
        for line in self.lines:
            self._draw_line(painter, line)
        painter.end()
