"""What lies under the curves: a few hairlines and the numbers beside them."""

from __future__ import annotations

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QPainter, QPen

from kd_gui.plots import ticks
from kd_gui.plots.fit import most
from kd_gui.plots.frame import Frame
from kd_gui.theme import theme

WIDE = 64  # pixels between two numbers of the horizontal axis, at least

Labels = list[tuple[float, str]]


def paint_grid(painter: QPainter, frame: Frame) -> None:
    """Horizontal lines only: x is read with the crosshair."""
    tokens, rect = theme().tokens, frame.rect
    height = QFontMetricsF(painter.font()).height()
    line, ink = QPen(QColor(tokens.line), 1.0), QColor(tokens.muted)
    for y, text in y_labels(frame):
        py = round(frame.py(y)) + 0.5
        painter.setPen(line)
        painter.drawLine(QPointF(rect.left(), py), QPointF(rect.right(), py))
        painter.setPen(ink)
        cell = QRectF(0, py - 8, rect.left() - 8, 16)
        painter.drawText(cell, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, text)
    painter.setPen(ink)
    for x, text in x_labels(frame):
        cell = QRectF(frame.px(x) - 30, rect.bottom() + 5, 60, height)
        painter.drawText(cell, Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignTop, text)


def y_labels(frame: Frame) -> Labels:
    room = most(frame.rect.height())
    if frame.log:
        return [(v, f"{10.0**v:.3g}") for v in ticks.log_ticks(frame.y0, frame.y1, room)]
    return _labelled(ticks.ticks(frame.y0, frame.y1, room))


def x_labels(frame: Frame) -> Labels:
    room = most(frame.rect.width(), WIDE)
    values = ticks.count_ticks(frame.x0, frame.x1, room)
    return _labelled(values if len(values) > 1 else ticks.ticks(frame.x0, frame.x1, room))


def _labelled(values: list[float]) -> Labels:
    step = values[1] - values[0] if len(values) > 1 else 1.0
    return [(value, ticks.words(value, step)) for value in values]
