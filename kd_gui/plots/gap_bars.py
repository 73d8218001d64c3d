"""Where the student falls behind its teacher, class by class: recall less recall from a zero line, the worst
first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QMouseEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from kd_gui.theme import font, theme

ROW, TALLEST, BAR = 19, 30, 9
NAMES = (24.0, 96.0)
GAP_COLUMN, RECALLS = 48.0, 92.0  # widths: of the gap's figure, of "97 → 89 %"
LEAST_SPAN = 0.05  # the axis reaches at least so far


@dataclass(frozen=True)
class Gap:
    """A class. gap: student less teacher, fractions; teacher, student: their recalls; images: of it."""

    name: str
    gap: float
    teacher: float
    student: float
    images: int


def sorted_gaps(
    classes: Sequence[str], gaps: np.ndarray, teacher: np.ndarray, student: np.ndarray, support: np.ndarray
) -> list[Gap]:
    """Worst first; classes without a sample are left out."""
    found = [
        Gap(classes[i], float(gaps[i]), float(teacher[i]), float(student[i]), int(support[i]))
        for i in range(len(classes))
        if np.isfinite(gaps[i])
    ]
    return sorted(found, key=lambda one: (one.gap, one.student))


class GapBars(QWidget):
    """Left of the line, in the teacher's colour: the teacher finds more. Right of it, in the student's: the
    student does."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setMouseTracking(True)
        self.setFont(font("text"))
        self.setAccessibleName(self.tr("Gaps by class"))
        self.gaps: tuple[Gap, ...] = ()
        self._pointed = -1
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.MinimumExpanding)
        theme().changed.connect(self.update)

    def show_gaps(self, gaps: Sequence[Gap]) -> None:
        """In the order given."""
        self.gaps = tuple(gaps)
        self.setAccessibleDescription(", ".join(f"{one.name} {_points(one.gap)}" for one in self.gaps))
        self.updateGeometry()
        self.update()

    @property
    def span(self) -> float:
        """How far the axis reaches to both sides."""
        return max([LEAST_SPAN, *(abs(one.gap) for one in self.gaps)])

    def zero(self) -> float:
        """Where the line stands: its sides are as wide as they need."""
        left, right = self._track()
        low, high = self._reach()
        return left + (right - left) * low / (low + high)

    def _reach(self) -> tuple[float, float]:
        low = max([LEAST_SPAN / 5, *(-one.gap for one in self.gaps)])
        high = max([LEAST_SPAN / 5, *(one.gap for one in self.gaps)])
        short = LEAST_SPAN - low - high
        return (low + max(short, 0.0), high)

    def _track(self) -> tuple[float, float]:
        return self._names() + GAP_COLUMN, max(self.width() - RECALLS - GAP_COLUMN, self._names() + 60)

    def _names(self) -> float:
        metrics = QFontMetricsF(self.font())
        widest = max((metrics.horizontalAdvance(one.name) for one in self.gaps), default=0.0)
        return min(max(widest + 10, NAMES[0]), NAMES[1])

    def _row(self) -> float:
        return min(max(self.height() / max(len(self.gaps), 1), ROW), TALLEST)

    def _draw(self, painter: QPainter, i: int, one: Gap) -> None:
        tokens, row = theme().tokens, self._row()
        top, middle = i * row, Qt.AlignmentFlag.AlignVCenter
        left, right = self._track()
        low, high = self._reach()
        if i == self._pointed:
            painter.fillRect(QRectF(0, top, self.width(), row), QColor(tokens.field))
        painter.setPen(QColor(tokens.text))
        metrics = QFontMetricsF(self.font())
        name = metrics.elidedText(one.name, Qt.TextElideMode.ElideRight, self._names() - 10)
        painter.drawText(
            QRectF(0, top, self._names() - 10, row), int(middle | Qt.AlignmentFlag.AlignRight), name
        )
        length = one.gap / (low + high) * (right - left)
        bar = QRectF(self.zero(), top + (row - BAR) / 2, length, BAR).normalized()
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(tokens.teacher if one.gap < 0 else tokens.student))
        if abs(one.gap) > 0:
            painter.drawRoundedRect(bar, 2, 2)
        painter.setPen(QColor(tokens.text if one.gap else tokens.faint))
        if one.gap < 0:
            figure = QRectF(bar.left() - GAP_COLUMN, top, GAP_COLUMN - 6, row)
            painter.drawText(figure, int(middle | Qt.AlignmentFlag.AlignRight), _points(one.gap))
        else:
            figure = QRectF(bar.right() + 6, top, GAP_COLUMN, row)
            painter.drawText(figure, int(middle), _points(one.gap))
        painter.setPen(QColor(tokens.muted))
        recalls = QRectF(self.width() - RECALLS, top, RECALLS, row)
        words = f"{100 * one.teacher:.0f} → {100 * one.student:.0f} %"
        painter.drawText(recalls, int(middle | Qt.AlignmentFlag.AlignRight), words)

    # ---- Qt ------------------------------------------------------------------------------------------------
    def sizeHint(self) -> QSize:
        return QSize(400, max(len(self.gaps), 1) * ROW)

    def minimumSizeHint(self) -> QSize:
        return QSize(260, max(len(self.gaps), 1) * ROW)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        at = int(event.position().y() // self._row())
        at = at if 0 <= at < len(self.gaps) else -1
        if at != self._pointed:
            self._pointed = at
            one = self.gaps[at] if at >= 0 else None
            words = self.tr(
                "{name}: the teacher finds {teacher} % of {images} images, the student {student} %"
            )
            self.setToolTip(
                ""
                if one is None
                else words.format(
                    name=one.name,
                    teacher=f"{100 * one.teacher:.1f}",
                    images=one.images,
                    student=f"{100 * one.student:.1f}",
                )
            )
            self.update()

    def leaveEvent(self, event: QEvent) -> None:
        self._pointed = -1
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setFont(self.font())
        shown = event.rect()
        for i, one in enumerate(self.gaps):
            if (i + 1) * self._row() >= shown.top() and i * self._row() <= shown.bottom():
                self._draw(painter, i, one)
        painter.setPen(QPen(QColor(theme().tokens.muted), 1))
        x = round(self.zero()) + 0.5
        painter.drawLine(QPointF(x, 0), QPointF(x, len(self.gaps) * self._row()))
        painter.end()


def _points(gap: float) -> str:
    return f"{100 * gap:+.1f}".replace("-", "−") if abs(gap) >= 0.0005 else "0"
