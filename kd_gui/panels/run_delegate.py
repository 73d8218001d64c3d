"""How a row of the table of runs is painted: words over a hairline, a dot that tells how it stands."""

from __future__ import annotations

import time

from PySide6.QtCore import QDateTime, QLocale, QModelIndex, QPersistentModelIndex, QPointF, QRect, QSize, Qt
from PySide6.QtGui import QColor, QFontMetrics, QPainter, QPen
from PySide6.QtWidgets import QStyle, QStyledItemDelegate, QStyleOptionViewItem

from kd_gui.state.run_figures import DOT, NAME, UNKNOWN
from kd_gui.state.runs import LIVE, STATUS, WHEN
from kd_gui.theme import font, theme

ROW = 25
LEAST_NAME = 60  # pixels of a name that are left before the time beside it goes

Index = QModelIndex | QPersistentModelIndex


class RunDelegate(QStyledItemDelegate):
    """A row as a line of words over a hairline; a dot tells how the run stands."""

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:
        return QSize(40, ROW)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        tokens = theme().tokens
        selected = bool(option.state & QStyle.StateFlag.State_Selected)
        if selected:
            painter.fillRect(option.rect, QColor(tokens.field))
        painter.setPen(QPen(QColor(tokens.line), 1))
        painter.drawLine(option.rect.bottomLeft(), option.rect.bottomRight())
        if index.column() == DOT:
            self._paint_dot(painter, option.rect, index.data(STATUS))
            return
        live = bool(index.data(LIVE))
        words = str(index.data())
        known = words != UNKNOWN
        painter.setFont(font("text"))
        painter.setPen(QColor(tokens.student if live else tokens.text if known else tokens.faint))
        cell = option.rect.adjusted(6, 0, -8, -1)
        if index.column() == NAME:
            self._paint_name(painter, cell, words, "" if live else when(float(index.data(WHEN))))
        else:
            painter.drawText(cell, int(index.data(Qt.ItemDataRole.TextAlignmentRole)), words)

    def _paint_name(self, painter: QPainter, cell: QRect, words: str, made: str) -> None:
        """The name and when it was made: names repeat, times do not, so a long name gives way."""
        metrics = QFontMetrics(painter.font())
        small = font("caption")
        room = cell.width() - (QFontMetrics(small).horizontalAdvance(made) + 10 if made else 0)
        shown = metrics.elidedText(words, Qt.TextElideMode.ElideRight, max(room, LEAST_NAME))
        flags = int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        painter.drawText(cell, flags, shown)
        if room >= LEAST_NAME:
            painter.setFont(small)
            painter.setPen(QColor(theme().tokens.faint))
            painter.drawText(cell.adjusted(metrics.horizontalAdvance(shown) + 10, 0, 0, 0), flags, made)

    def _paint_dot(self, painter: QPainter, cell: QRect, status: str) -> None:
        tokens = theme().tokens
        filled = {"live": tokens.student, "running": tokens.student, "failed": tokens.bad}
        hollow = {"stopped": tokens.muted, "interrupted": tokens.warn}
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        at = QPointF(cell.center().x() + 1, cell.center().y())
        if status in filled:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(filled[status]))
            painter.drawEllipse(at, 4.0, 4.0)
        elif status in hollow:
            painter.setPen(QPen(QColor(hollow[status]), 1.5))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawEllipse(at, 3.5, 3.5)
        painter.restore()


def when(created: float) -> str:
    """A time of the day for today's runs, else a date."""
    today = time.localtime()[:3] == time.localtime(created)[:3]
    this_year = time.localtime().tm_year == time.localtime(created).tm_year
    form = "HH:mm" if today else "d MMM" if this_year else "yyyy-MM-dd"
    return QLocale().toString(QDateTime.fromSecsSinceEpoch(int(created)), form)
