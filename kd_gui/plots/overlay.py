"""What lies over the curves: markers, levels, best points, the crosshair's read-out; and what the mouse does.

Painted in pixels, so that labels can be kept apart. The curves below are not asked for anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtCore import QEvent, QPointF, QRectF, Qt, Signal
from PySide6.QtGui import QColor, QFontMetricsF, QMouseEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QWidget

from kd_gui.plots.frame import Frame
from kd_gui.theme import Tokens, font, theme

LANES = 3  # rows of marker labels; a marker that finds no room keeps its line
MOVED = 4  # pixels before a press is a drag
FLAT = 12  # a drag less high than this zooms along x only


@dataclass(frozen=True)
class Level:
    """A horizontal line across the plot with its words, as for the teacher. y: as drawn."""

    y: float
    text: str
    color: str


@dataclass(frozen=True)
class Spot:
    """A ringed point with a few words, as for the best epoch."""

    x: float
    y: float
    text: str
    color: str


@dataclass(frozen=True)
class Row:
    """A line of the read-out; `y`: where its dot lies, None for no dot."""

    title: str
    value: str
    color: str
    dash: Qt.PenStyle
    y: float | None


@dataclass(frozen=True)
class Reading:
    """What the crosshair at `x` reads. `title`: where it stands, in words."""

    x: float
    title: str
    rows: tuple[Row, ...]


class Overlay(QWidget):
    """Give it a frame and what to draw; it tells where the mouse points and what was dragged out.

    `pointed(x)`: the x under the mouse, or None. `dragged(QRectF)`: a rectangle in pixels. `doubled()`: a
    double click.
    """

    pointed = Signal(object)
    dragged = Signal(QRectF)
    doubled = Signal()

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setMouseTracking(True)
        self.setCursor(Qt.CursorShape.CrossCursor)
        self.setFont(font("caption"))
        self.frame = Frame(QRectF(0, 0, 1, 1))
        self.markers: tuple[tuple[float, str], ...] = ()
        self.levels: tuple[Level, ...] = ()
        self.spots: tuple[Spot, ...] = ()
        self.reading: Reading | None = None
        self.with_values = True  # whether the read-out is drawn; a linked crosshair has none
        self.with_labels = True
        self.message = ""
        self._press: QPointF | None = None
        self._drag: QRectF | None = None

    def marker_labels(self) -> list[tuple[float, str, QRectF]]:
        """(x in pixels, words, pill) of every marker whose label finds room, none over another."""
        metrics = QFontMetricsF(self.font())
        rect = self.frame.rect
        placed: list[tuple[float, str, QRectF]] = []
        height = metrics.height() + 4
        for x, text in self.markers if self.with_labels else ():
            px = self.frame.px(x)
            if not rect.left() <= px <= rect.right():
                continue
            width = metrics.horizontalAdvance(text) + 14
            left = px + 5 if px + 5 + width <= rect.right() else px - 5 - width
            for lane in range(LANES):
                pill = QRectF(left, rect.top() + 2 + lane * (height + 3), width, height)
                if not any(pill.adjusted(-4, -2, 4, 2).intersects(other) for _, _, other in placed):
                    placed.append((px, text, pill))
                    break
        return placed

    def _paint_markers(self, painter: QPainter, tokens: Tokens) -> None:
        rect = self.frame.rect
        pen = QPen(QColor(tokens.muted), 1.0)
        pen.setDashPattern([3.0, 3.0])
        for x, _ in self.markers:
            px = round(self.frame.px(x)) + 0.5
            if rect.left() <= px <= rect.right() + 1:
                painter.setPen(pen)
                painter.drawLine(QPointF(px, rect.top()), QPointF(px, rect.bottom()))
        for _, text, pill in self.marker_labels():
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(tokens.hover))
            painter.drawRoundedRect(pill, pill.height() / 2, pill.height() / 2)
            painter.setPen(QColor(tokens.text))
            painter.drawText(pill, Qt.AlignmentFlag.AlignCenter, text)

    def _paint_levels(self, painter: QPainter) -> None:
        rect = self.frame.rect
        metrics = QFontMetricsF(self.font())
        for level in self.levels:
            py = round(self.frame.py(level.y)) + 0.5
            if not rect.top() - 1 <= py <= rect.bottom() + 1:
                continue
            pen = QPen(QColor(level.color), 1.0)
            pen.setDashPattern([6.0, 4.0])
            painter.setPen(pen)
            painter.drawLine(QPointF(rect.left(), py), QPointF(rect.right(), py))
            above = py - metrics.height() - 1
            top = above if above >= 0 else py + 2
            words = QRectF(rect.left(), top, rect.width(), metrics.height())
            painter.drawText(words, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, level.text)

    def _paint_spots(self, painter: QPainter, tokens: Tokens) -> None:
        for spot in self.spots:
            at = self.frame.point(spot.x, spot.y)
            if not self.frame.rect.adjusted(-2, -2, 2, 2).contains(at):
                continue
            painter.setPen(QPen(QColor(spot.color), 2.0))
            painter.setBrush(QColor(tokens.surface))
            painter.drawEllipse(at, 3.5, 3.5)
            metrics = QFontMetricsF(self.font())
            width = metrics.horizontalAdvance(spot.text)
            left = min(max(at.x() - width / 2, self.frame.rect.left()), self.frame.rect.right() - width)
            words = QRectF(left, at.y() + 6, width, metrics.height())
            painter.setPen(QColor(spot.color))
            painter.drawText(words, Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextDontClip, spot.text)

    def _paint_message(self, painter: QPainter, tokens: Tokens) -> None:
        metrics = QFontMetricsF(self.font())
        ground = QRectF(0, 0, metrics.horizontalAdvance(self.message) + 20, metrics.height() + 8)
        ground.moveCenter(self.frame.rect.center())
        painter.fillRect(ground, QColor(tokens.surface))
        painter.setPen(QColor(tokens.muted))
        painter.drawText(ground, Qt.AlignmentFlag.AlignCenter, self.message)

    def _paint_reading(self, painter: QPainter, tokens: Tokens, reading: Reading) -> None:
        rect = self.frame.rect
        px = round(self.frame.px(reading.x)) + 0.5
        if not rect.left() <= px <= rect.right() + 1:
            return
        painter.setPen(QPen(QColor(tokens.faint), 1.0))
        painter.drawLine(QPointF(px, rect.top()), QPointF(px, rect.bottom()))
        for row in reading.rows:
            if row.y is not None:
                painter.setPen(QPen(QColor(tokens.surface), 1.5))
                painter.setBrush(QColor(row.color))
                painter.drawEllipse(QPointF(px, self.frame.py(row.y)), 4.0, 4.0)
        if self.with_values:
            self._paint_values(painter, tokens, reading, px)

    def _paint_values(self, painter: QPainter, tokens: Tokens, reading: Reading, px: float) -> None:
        metrics = QFontMetricsF(self.font())
        line = metrics.height() + 3
        names = max((metrics.horizontalAdvance(row.title) for row in reading.rows), default=0.0)
        values = max((metrics.horizontalAdvance(row.value) for row in reading.rows), default=0.0)
        width = max(18 + names + 14 + values, metrics.horizontalAdvance(reading.title)) + 20
        height = line * (len(reading.rows) + 1) + 13
        left = px + 12 if px + 12 + width <= self.width() else px - 12 - width
        top = min(self.frame.rect.top() + 4, max(self.height() - height - 2, 1.0))
        card = QRectF(left, top, width, height)
        painter.setPen(QPen(QColor(tokens.line), 1.0))
        painter.setBrush(QColor(tokens.surface))
        painter.drawRoundedRect(card, 6, 6)
        cell = QRectF(left + 10, top + 6, width - 20, line)
        painter.setPen(QColor(tokens.muted))
        painter.drawText(cell, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, reading.title)
        for row in reading.rows:
            cell.translate(0, line)
            middle = cell.center().y()
            pen = QPen(QColor(row.color), 2.0, row.dash)
            pen.setCapStyle(Qt.PenCapStyle.FlatCap)
            painter.setPen(pen)
            painter.drawLine(QPointF(cell.left(), middle), QPointF(cell.left() + 12, middle))
            painter.setPen(QColor(tokens.muted))
            words = cell.adjusted(18, 0, 0, 0)
            painter.drawText(words, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, row.title)
            painter.setPen(QColor(tokens.text))
            painter.drawText(words, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, row.value)

    def _point(self, at: QPointF) -> None:
        rect = self.frame.rect
        if not rect.adjusted(-6, -8, 6, 8).contains(at):
            self.pointed.emit(None)
        else:
            self.pointed.emit(self.frame.x(min(max(at.x(), rect.left()), rect.right())))

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton:
            self._press = event.position()
        else:
            event.ignore()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self._press is None:
            self._point(event.position())
            return
        drag = QRectF(self._press, event.position()).normalized()
        if self._drag is not None or max(drag.width(), drag.height()) > MOVED:
            rect = self.frame.rect
            if drag.height() < FLAT:
                drag = QRectF(drag.left(), rect.top(), drag.width(), rect.height())
            self._drag = drag.intersected(rect)
            self.update()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        drag, self._drag, self._press = self._drag, None, None
        if drag is not None:
            self.update()
            if drag.width() > MOVED:
                self.dragged.emit(drag)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        self._press = None
        self.doubled.emit()

    def leaveEvent(self, event: QEvent) -> None:
        self.pointed.emit(None)

    def paintEvent(self, event: QPaintEvent) -> None:
        tokens = theme().tokens
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self._paint_markers(painter, tokens)
        self._paint_levels(painter)
        self._paint_spots(painter, tokens)
        if self.message:
            self._paint_message(painter, tokens)
        if self._drag is not None:
            fill = QColor(tokens.teacher)
            painter.setPen(QPen(fill, 1.0))
            fill.setAlphaF(0.12)
            painter.setBrush(fill)
            painter.drawRect(self._drag)
        elif self.reading is not None:
            self._paint_reading(painter, tokens, self.reading)
        painter.end()
