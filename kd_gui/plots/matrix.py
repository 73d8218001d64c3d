"""How one confusion matrix is drawn: the found in grey on the diagonal, mistakes in the colour of who makes
them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PySide6.QtCore import QCoreApplication, QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QPainter, QPen

from kd_gui.plots import colors
from kd_gui.state.measures import Confusion
from kd_gui.theme import font, theme

HEAD = 20  # the height of a title
FIGURED, GRID = 14.0, 5.0  # cells from this size on have figures, lines between them
STEEP = 0.6  # of the colours: 1 would be linear; a single mistake must be seen
DIAGONAL = 0.16  # how much ink a class that is always found gets


@dataclass(frozen=True, eq=False)
class Matrix:
    """title: above it. role: whose colour its mistakes have, "teacher", "student" or "rival"."""

    title: str
    role: str
    confusion: Confusion | None


def draw_title(painter: QPainter, rect: QRectF, matrix: Matrix) -> None:
    """Above `rect`, where the cells lie."""
    before = painter.font()
    painter.setFont(font("text"))
    painter.setPen(QColor(ink(matrix.role)))
    room = QRectF(rect.left(), 0, rect.width(), HEAD - 4)
    title = QFontMetricsF(painter.font()).elidedText(matrix.title, Qt.TextElideMode.ElideRight, room.width())
    painter.drawText(room, int(Qt.AlignmentFlag.AlignVCenter), title)
    painter.setFont(before)


def draw_cells(painter: QPainter, rect: QRectF, matrix: Matrix, scale: float, percent: bool) -> None:
    """scale: the share of a row that has the full colour. percent: figures are shares, not counts."""
    tokens, confusion = theme().tokens, matrix.confusion
    if confusion is None:
        painter.fillRect(rect, QColor(tokens.field))
        painter.setPen(QColor(tokens.muted))
        words = QCoreApplication.translate("matrix", "not kept")
        painter.drawText(rect, int(Qt.AlignmentFlag.AlignCenter), words)
        return
    painter.drawImage(rect, colors.to_image(inks(matrix.role, confusion, scale)))
    count = len(confusion.counts)
    step = rect.width() / max(count, 1)
    if step >= GRID:
        painter.setPen(QPen(QColor(tokens.surface), 1))
        for i in range(1, count):
            x, y = rect.left() + i * step, rect.top() + i * step
            painter.drawLine(QPointF(x, rect.top()), QPointF(x, rect.bottom()))
            painter.drawLine(QPointF(rect.left(), y), QPointF(rect.right(), y))
    if step >= FIGURED:
        _draw_figures(painter, rect, matrix.role, confusion, scale, percent)


def inks(role: str, confusion: Confusion, scale: float) -> np.ndarray:
    """(C, C) colours: mistakes from the field's to the role's, the diagonal in grey."""
    tokens = theme().tokens
    levels = np.clip(confusion.mistakes / scale, 0.0, 1.0) ** STEEP
    made = colors.ramp(tokens.field, ink(role))[np.rint(255 * levels).astype(np.intp)]
    found = np.rint(255 * DIAGONAL * np.nan_to_num(confusion.recall)).astype(np.intp)
    np.fill_diagonal(made, colors.ramp(tokens.field, tokens.text)[found])
    return made


def ink(role: str) -> str:
    """The colour of who speaks."""
    tokens = theme().tokens
    return {"teacher": tokens.teacher, "student": tokens.student}.get(role, tokens.rival)


def _draw_figures(
    painter: QPainter, rect: QRectF, role: str, confusion: Confusion, scale: float, percent: bool
) -> None:
    tokens = theme().tokens
    step = rect.width() / len(confusion.counts)
    shown = np.rint(100 * confusion.shares).astype(int) if percent else confusion.counts
    if QFontMetricsF(painter.font()).horizontalAdvance(str(int(shown.max(initial=0)))) > step:
        return
    levels = (confusion.mistakes / scale) ** STEEP
    for row, column in np.argwhere(confusion.counts > 0).tolist():
        full = levels[row, column] > 0.55
        plain = tokens.muted if row == column else tokens.text
        painter.setPen(QColor(_on(role) if full and row != column else plain))
        cell = QRectF(rect.left() + column * step, rect.top() + row * step, step, step)
        painter.drawText(cell, int(Qt.AlignmentFlag.AlignCenter), str(int(shown[row, column])))


def _on(role: str) -> str:
    """Ink on a fill of the role's full colour."""
    tokens = theme().tokens
    return tokens.on_student if role == "student" or not tokens.dark else tokens.ground
