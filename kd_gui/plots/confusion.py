"""Two confusion matrices side by side on one scale: what is found lies muted on the diagonal, what is mixed
up stands out. The pointer marks the same cell in both.

Colours come from each row's shares, so that classes of different size can be compared; figures are counts or
percent. Above some classes a cell has no room for a figure, above more none for its name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QFontMetricsF,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPixmap,
    QResizeEvent,
)
from PySide6.QtWidgets import QSizePolicy, QWidget

from kd_gui.plots.matrix import HEAD, Matrix, draw_cells, draw_title
from kd_gui.theme import font, theme

BETWEEN, PAD = 16, 6  # between matrices; between a name and its cell
NAMES = (14.0, 64.0)  # the room for names, at least and at most
NAMED = 11.0  # cells from this size on have names
LEAST = 120  # a matrix's side


class ConfusionPair(QWidget):
    """`pointed(row, column)`: the pointer, or a key, is at a cell; (-1, -1) when it left. `picked(row,
    column)`: that cell was clicked."""

    pointed = Signal(int, int)
    picked = Signal(int, int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName(self.tr("Confusion matrices"))
        self.setFont(font("caption"))
        self.matrices: tuple[Matrix, ...] = ()
        self.classes: tuple[str, ...] = ()
        self.percent = False
        self.cell = (-1, -1)
        self._side, self._left, self._below = 0.0, 0.0, 0.0
        self._drawn: QPixmap | None = None  # all but the mark of the pointer
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        theme().changed.connect(self._redraw)

    def show_matrices(self, matrices: Sequence[Matrix], classes: Sequence[str]) -> None:
        if tuple(classes) != self.classes:
            self.cell = (-1, -1)
        self.matrices, self.classes = tuple(matrices), tuple(classes)
        self._redraw()

    def set_percent(self, percent: bool) -> None:
        """Figures are percent of their row instead of counts."""
        self.percent = percent
        self._redraw()

    @property
    def scale(self) -> float:
        """The share of a row that has the full colour: the largest mistake in any of the matrices."""
        found = [m.confusion.mistakes.max() for m in self.matrices if m.confusion is not None]
        return float(max(found, default=0.0)) or 1.0

    def rect_of(self, place: int) -> QRectF:
        """Where the cells of a matrix lie."""
        step = self._side + BETWEEN
        return QRectF(self._left + place * step, HEAD, self._side, self._side)

    def cell_at(self, where: QPointF) -> tuple[int, int]:
        """(row, column) under a point, (-1, -1) where there is none."""
        count = len(self.classes)
        for place in range(len(self.matrices)):
            rect = self.rect_of(place)
            if count and rect.contains(where):
                step = self._side / count
                row, column = int((where.y() - rect.top()) / step), int((where.x() - rect.left()) / step)
                return min(row, count - 1), min(column, count - 1)
        return -1, -1

    def point_at(self, row: int, column: int) -> None:
        if (row, column) != self.cell:
            self.cell = (row, column)
            self.update()
            self.pointed.emit(row, column)

    # ---- drawing -------------------------------------------------------------------------------------------
    def _redraw(self) -> None:
        self._drawn = None
        self._arrange()
        self.update()

    def _arrange(self) -> None:
        """Square cells as large as the room allows, names as wide as they need."""
        matrices = max(len(self.matrices), 1)
        self._side, self._left, self._below = self._sizes(self.width(), self.height())
        free = self.width() - self._left - matrices * self._side - (matrices - 1) * BETWEEN
        self._left += max(free, 0.0) / 2

    def natural_height(self, width: int) -> int:
        """The height from which more does not make the matrices larger."""
        side, _, below = self._sizes(width, 10_000)
        return math.ceil(HEAD + side + below)

    def _sizes(self, width: float, height: float) -> tuple[float, float, float]:
        """A matrix's side, and the room for names left of and below it: names go where cells are too small
        for them, and stand upright where they are too wide."""
        count, matrices = max(len(self.classes), 1), max(len(self.matrices), 1)
        metrics = QFontMetricsF(self.font())
        widest = max((metrics.horizontalAdvance(name) for name in self.classes), default=0.0)
        names = min(max(widest + PAD, NAMES[0]), NAMES[1])
        for left, below in ((names, metrics.height() + 2), (names, names)):
            across = (width - left - (matrices - 1) * BETWEEN) / matrices
            side = max(min(across, height - HEAD - below), 8.0)
            if side / count >= NAMED and (below == names or widest <= side / count - 2):
                return side, left, below
        across = (width - (matrices - 1) * BETWEEN) / matrices
        return max(min(across, height - HEAD), 8.0), 0.0, 0.0

    def _upright(self, metrics: QFontMetricsF) -> bool:
        """Whether the names of columns have to be turned to fit."""
        step = self._side / max(len(self.classes), 1)
        return any(metrics.horizontalAdvance(name) > step - 2 for name in self.classes)

    def _draw(self) -> QPixmap:
        ratio = self.devicePixelRatioF()
        drawn = QPixmap(self.size() * ratio)
        drawn.setDevicePixelRatio(ratio)
        drawn.fill(Qt.GlobalColor.transparent)
        painter = QPainter(drawn)
        painter.setFont(self.font())
        scale = self.scale
        for place, matrix in enumerate(self.matrices):
            draw_title(painter, self.rect_of(place), matrix)
            draw_cells(painter, self.rect_of(place), matrix, scale, self.percent)
            if matrix.confusion is not None:
                self._draw_columns(painter, self.rect_of(place))
        if self.matrices:
            self._draw_rows(painter, self.rect_of(0))
        painter.end()
        return drawn

    def _draw_rows(self, painter: QPainter, rect: QRectF) -> None:
        step = rect.height() / max(len(self.classes), 1)
        if step < NAMED:
            return
        painter.setPen(QColor(theme().tokens.muted))
        metrics = QFontMetricsF(self.font())
        for i, name in enumerate(self.classes):
            room = QRectF(rect.left() - NAMES[1], rect.top() + i * step, NAMES[1] - PAD, step)
            text = metrics.elidedText(name, Qt.TextElideMode.ElideRight, NAMES[1] - PAD)
            painter.drawText(room, int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight), text)

    def _draw_columns(self, painter: QPainter, rect: QRectF) -> None:
        step = rect.width() / max(len(self.classes), 1)
        if step < NAMED:
            return
        painter.setPen(QColor(theme().tokens.muted))
        metrics = QFontMetricsF(self.font())
        upright = self._upright(metrics)
        for i, name in enumerate(self.classes):
            if not upright:
                room = QRectF(rect.left() + i * step, rect.bottom() + 2, step, metrics.height())
                painter.drawText(room, int(Qt.AlignmentFlag.AlignCenter), name)
                continue
            painter.save()
            painter.translate(rect.left() + (i + 0.5) * step, rect.bottom() + 4)
            painter.rotate(-90)
            text = metrics.elidedText(name, Qt.TextElideMode.ElideRight, self._below - 4)
            room = QRectF(-self._below, -step / 2, self._below, step)
            painter.drawText(room, int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight), text)
            painter.restore()

    def _mark(self, painter: QPainter) -> None:
        """The cell in every matrix, its row and its column."""
        tokens, (row, column) = theme().tokens, self.cell
        step = self._side / len(self.classes)
        band = QColor(tokens.text)
        band.setAlphaF(0.06)
        for place in range(len(self.matrices)):
            rect = self.rect_of(place)
            painter.fillRect(QRectF(rect.left(), rect.top() + row * step, rect.width(), step), band)
            painter.fillRect(QRectF(rect.left() + column * step, rect.top(), step, rect.height()), band)
            painter.setPen(QPen(QColor(tokens.text), 1.5))
            painter.drawRect(
                QRectF(rect.left() + column * step, rect.top() + row * step, max(step, 3.0), max(step, 3.0))
            )

    # ---- Qt ------------------------------------------------------------------------------------------------
    def sizeHint(self) -> QSize:
        return QSize(540, 300)

    def minimumSizeHint(self) -> QSize:
        return QSize(2 * LEAST + BETWEEN + 20, LEAST + HEAD + 20)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._redraw()

    def paintEvent(self, event: QPaintEvent) -> None:
        if self._drawn is None:
            self._drawn = self._draw()
        painter = QPainter(self)
        painter.drawPixmap(0, 0, self._drawn)
        if self.cell != (-1, -1) and self.classes:
            self._mark(painter)
        painter.end()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        self.point_at(*self.cell_at(event.position()))

    def mousePressEvent(self, event: QMouseEvent) -> None:
        cell = self.cell_at(event.position())
        if cell != (-1, -1) and event.button() == Qt.MouseButton.LeftButton:
            self.picked.emit(*cell)

    def leaveEvent(self, event: QEvent) -> None:
        self.point_at(-1, -1)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Arrows go from cell to cell; the rest is the window's."""
        moves = {
            Qt.Key.Key_Up: (-1, 0),
            Qt.Key.Key_Down: (1, 0),
            Qt.Key.Key_Left: (0, -1),
            Qt.Key.Key_Right: (0, 1),
        }
        count, move = len(self.classes), moves.get(Qt.Key(event.key()))
        if move is not None and count:
            row, column = (min(max(at + by, 0), count - 1) for at, by in zip(self.cell, move, strict=True))
            self.point_at(row, column)
        else:
            super().keyPressEvent(event)
