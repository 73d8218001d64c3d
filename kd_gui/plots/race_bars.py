"""Students side by side: a bar each from 0 to 100 %, with the teacher's mark on every track."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from kd_gui.theme import font, theme

ROW = 23  # a bar with its room
BAR = 10
NAMES = 78  # width of the names
VALUES = 44


@dataclass(frozen=True)
class Bar:
    """share: 0 to 1, None while unknown. color: "#RRGGBB"."""

    name: str
    share: float | None
    color: str


class RaceBars(QWidget):
    """Bars in the order given; `mark`: the teacher's share, drawn as a thin line across every track."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFont(font("text"))
        self.bars: tuple[Bar, ...] = ()
        self.mark: float | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        theme().changed.connect(self.update)

    def show_bars(self, bars: Sequence[Bar], mark: float | None) -> None:
        if (tuple(bars), mark) != (self.bars, self.mark):
            if len(bars) != len(self.bars):
                self.updateGeometry()
            self.bars, self.mark = tuple(bars), mark
            words = [f"{bar.name} {_percent(bar.share)}" for bar in bars]
            self.setAccessibleName(", ".join(words))
            self.setToolTip("\n".join(words))
            self.update()

    def sizeHint(self) -> QSize:
        return QSize(330, max(ROW * len(self.bars), ROW))

    def minimumSizeHint(self) -> QSize:
        return QSize(200, self.sizeHint().height())

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        for i, bar in enumerate(self.bars):
            self._paint_bar(painter, bar, QRectF(0, i * ROW, self.width(), ROW))
        painter.end()

    def _paint_bar(self, painter: QPainter, bar: Bar, row: QRectF) -> None:
        tokens = theme().tokens
        metrics = QFontMetricsF(self.font())
        name = metrics.elidedText(bar.name, Qt.TextElideMode.ElideRight, NAMES - 8)
        painter.setPen(QColor(tokens.text))
        flags = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft
        painter.drawText(QRectF(0, row.top(), NAMES, ROW), flags, name)
        track = QRectF(NAMES, row.center().y() - BAR / 2, row.width() - NAMES - VALUES, BAR)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(tokens.field))
        painter.drawRoundedRect(track, 3, 3)
        if bar.share is not None:
            painter.setBrush(QColor(bar.color))
            painter.drawRoundedRect(
                QRectF(track.left(), track.top(), max(track.width() * bar.share, 2.0), BAR), 3, 3
            )
        if self.mark is not None:
            painter.setBrush(QColor(tokens.teacher))
            at = track.left() + track.width() * self.mark
            painter.drawRect(QRectF(at - 1, track.top() - 3, 2, BAR + 6))
        painter.setPen(QColor(tokens.text if bar.share is not None else tokens.faint))
        flags = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight
        painter.drawText(row, flags, _percent(bar.share))


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"
