"""Teacher, student and their difference side by side on one scale: heat over a picture, painted from
lookup tables.

Levels are fixed (0 to 1, and −1 to 1 for the difference), so that two pictures can be compared, and so
can two epochs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import (
    QBrush,
    QColor,
    QFontMetrics,
    QHelpEvent,
    QImage,
    QLinearGradient,
    QPainter,
    QPainterPath,
    QPaintEvent,
    QPen,
    QPixmap,
    QResizeEvent,
)
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from kd_gui.plots import colors
from kd_gui.theme import font, theme

TILES = ("teacher", "student", "difference")
_GAP, _BAR, _SCALE = 6, 8, 24  # between tiles; the colour bar, and with its figures
_LINE = 16  # a line of caption
_LEAST, _MOST = 72, 320  # a tile's side


@dataclass(frozen=True)
class TileText:
    """What stands below a tile. says: the class; wrong: whether that is not the label. note: a second
    line."""

    title: str
    says: str = ""
    wrong: bool = False
    note: str = ""


class HeatPictures(QWidget):
    """Three tiles with their captions and scales. Set what is known; what is not stays an empty tile with
    its words."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._picture: QImage | None = None
        self._outline = QPainterPath()
        self._heats: list[np.ndarray | None] = [None, None]
        self._tiles: list[QImage | None] = [None, None, None]  # heat as colours, at its own size
        self._scaled: dict[str, QPixmap] = {}  # at the screen's size: so changing the opacity scales nothing
        self._texts = [
            TileText(self.tr("teacher")),
            TileText(self.tr("student")),
            TileText(self.tr("difference")),
        ]
        self._empty = ["", "", ""]
        self._opacity = 0.6
        self._swapped = False
        policy = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        theme().changed.connect(self.recolor)

    def set_picture(self, image: np.ndarray | None, mask: np.ndarray | None = None) -> None:
        """image: (H, W, 3) uint8; mask: (H, W), drawn as an outline."""
        self._picture = None if image is None else colors.picture(image)
        self._outline = QPainterPath() if mask is None else colors.outline(mask)
        self._scaled.pop("picture", None)
        self.update()

    def set_heats(self, teacher: np.ndarray | None, student: np.ndarray | None) -> None:
        """Each (H, W) uint8, 255 for 1, or None where there is no heat yet."""
        self._heats = [teacher, student]
        self._color_tiles()

    def set_texts(self, teacher: TileText, student: TileText, difference: TileText) -> None:
        self._texts = [teacher, student, difference]
        self.setAccessibleDescription("; ".join(_in_words(text) for text in self._texts))
        self.update()

    def set_empty(self, teacher: str, student: str, difference: str) -> None:
        """What each tile says while it has nothing to show."""
        self._empty = [teacher, student, difference]
        self.update()

    @property
    def opacity(self) -> float:
        return self._opacity

    def set_opacity(self, opacity: float) -> None:
        """How much the heat covers the picture, 0 to 1."""
        self._opacity = min(max(opacity, 0.0), 1.0)
        self.update()

    @property
    def swapped(self) -> bool:
        return self._swapped

    def set_swapped(self, swapped: bool) -> None:
        """Teacher and student in each other's place: the eye sees what moves."""
        if swapped != self._swapped:
            self._swapped = swapped
            self.update()

    def recolor(self) -> None:
        """Make the colours anew, from the theme."""
        self._color_tiles()

    def _color_tiles(self) -> None:
        teacher, student = self._heats
        self._tiles = [
            None if heat is None else colors.to_image(colors.heat_table()[heat])
            for heat in (teacher, student)
        ]
        apart = None
        if teacher is not None and student is not None:
            table = colors.difference_table(theme().tokens)
            apart = colors.to_image(table[colors.difference_levels(teacher, student)])
        self._tiles.append(apart)
        for name in TILES:
            self._scaled.pop(name, None)
        self.update()

    def _side(self) -> int:
        by_width = (self.width() - _SCALE - 2 * _GAP) // 3
        return max(min(by_width, self.height() - 2 * _LINE - 4, _MOST), 8)

    def _rect(self, place: int) -> QRectF:
        side = self._side()
        return QRectF(place * (side + _GAP), 0, side, side)

    def _pixmap(self, name: str, image: QImage, side: int) -> QPixmap:
        if name not in self._scaled:
            pixels = round(side * self.devicePixelRatioF())
            scaled = image.scaled(
                pixels,
                pixels,
                Qt.AspectRatioMode.IgnoreAspectRatio,
                Qt.TransformationMode.SmoothTransformation,
            )
            pixmap = QPixmap.fromImage(scaled)
            pixmap.setDevicePixelRatio(self.devicePixelRatioF())
            self._scaled[name] = pixmap
        return self._scaled[name]

    def _paint_tile(self, painter: QPainter, place: int, tile: int) -> None:
        rect, tokens, heat = self._rect(place), theme().tokens, self._tiles[tile]
        if heat is None and (tile != 0 or self._picture is None):
            self._paint_empty(painter, rect, self._empty[tile])
            return
        if tile < 2 and self._picture is not None:
            _fill(painter, rect, self._pixmap("picture", self._picture, int(rect.width())))
        if heat is not None:
            painter.setOpacity(1.0 if tile == 2 else self._opacity)
            _fill(painter, rect, self._pixmap(TILES[tile], heat, int(rect.width())))
            painter.setOpacity(1.0)
        if tile == 2:
            painter.setPen(QPen(QColor(tokens.line), 1))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(rect.adjusted(0.5, 0.5, -0.5, -0.5), 4, 4)
        self._paint_outline(painter, rect, QColor(tokens.muted) if tile == 2 else QColor(255, 255, 255, 170))

    def _paint_outline(self, painter: QPainter, rect: QRectF, color: QColor) -> None:
        if not self._outline.isEmpty():
            painter.save()
            painter.translate(rect.topLeft())
            painter.scale(rect.width(), rect.height())
            pen = QPen(color, 1)
            pen.setCosmetic(True)
            painter.setPen(pen)
            painter.drawPath(self._outline)
            painter.restore()

    def _paint_empty(self, painter: QPainter, rect: QRectF, words: str) -> None:
        tokens = theme().tokens
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(tokens.field))
        painter.drawRoundedRect(rect, 4, 4)
        painter.setFont(font("caption"))
        painter.setPen(QColor(tokens.muted))
        flags = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
        painter.drawText(rect.adjusted(8, 6, -8, -6), int(flags), words)

    def _paint_text(self, painter: QPainter, rect: QRectF, tile: int) -> None:
        tokens, text = theme().tokens, self._texts[tile]
        ink = (tokens.teacher, tokens.student, tokens.muted)[tile]
        painter.setFont(font("caption"))
        metrics = QFontMetrics(painter.font())
        line = QRectF(rect.left(), rect.bottom() + 4, rect.width(), _LINE)
        painter.setPen(QColor(ink))
        title = metrics.elidedText(text.title, Qt.TextElideMode.ElideRight, int(line.width()))
        painter.drawText(line, int(Qt.AlignmentFlag.AlignVCenter), title)
        line.setLeft(line.left() + metrics.horizontalAdvance(title))
        if text.says:
            painter.setPen(QColor(tokens.bad if text.wrong else tokens.text))
            says = f" · {text.says} ✕" if text.wrong else f" · {text.says}"
            says = metrics.elidedText(says, Qt.TextElideMode.ElideRight, int(line.width()))
            painter.drawText(line, int(Qt.AlignmentFlag.AlignVCenter), says)
        if text.note:
            painter.setPen(QColor(tokens.muted))
            below = QRectF(rect.left(), line.bottom(), rect.width(), _LINE)
            note = metrics.elidedText(text.note, Qt.TextElideMode.ElideRight, int(below.width()))
            painter.drawText(below, int(Qt.AlignmentFlag.AlignVCenter), note)

    def _paint_heat_scale(self, painter: QPainter) -> None:
        rect, tokens = self._rect(2), theme().tokens
        bar = QRectF(rect.right() + _GAP, rect.top(), _BAR, rect.height())
        gradient = QLinearGradient(bar.bottomLeft(), bar.topLeft())
        colors.set_stops(gradient, colors.heat_table())
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QBrush(gradient))
        painter.drawRoundedRect(bar, 2, 2)
        painter.setFont(font("caption"))
        painter.setPen(QColor(tokens.muted))
        figures = QRectF(bar.right() + 3, bar.top() - 2, _SCALE, bar.height() + 4)
        painter.drawText(figures, int(Qt.AlignmentFlag.AlignTop), "1")
        painter.drawText(figures, int(Qt.AlignmentFlag.AlignBottom), "0")

    def _paint_difference_scale(self, painter: QPainter) -> None:
        rect, tokens = self._rect(2), theme().tokens
        line = QRectF(rect.left(), rect.bottom() + 4 + _LINE, rect.width(), _LINE)
        painter.setFont(font("caption"))
        painter.setPen(QColor(tokens.muted))
        painter.drawText(line, int(Qt.AlignmentFlag.AlignVCenter), "−1")
        painter.drawText(line, int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight), "+1")
        bar = QRectF(line.left() + 18, line.center().y() - 2, line.width() - 36, 5)
        gradient = QLinearGradient(bar.topLeft(), bar.topRight())
        colors.set_stops(gradient, colors.difference_table(tokens))
        painter.setPen(QPen(QColor(tokens.line), 1))
        painter.setBrush(QBrush(gradient))
        painter.drawRoundedRect(bar, 2, 2)

    def hasHeightForWidth(self) -> bool:
        return True

    def heightForWidth(self, width: int) -> int:
        side = max(min((width - _SCALE - 2 * _GAP) // 3, _MOST), _LEAST)
        return side + 2 * _LINE + 4

    def sizeHint(self) -> QSize:
        return QSize(372, self.heightForWidth(372))

    def minimumSizeHint(self) -> QSize:
        return QSize(3 * _LEAST + 2 * _GAP + _SCALE, _LEAST + 2 * _LINE + 4)

    def resizeEvent(self, event: QResizeEvent) -> None:
        self._scaled.clear()
        super().resizeEvent(event)

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.ToolTip and isinstance(event, QHelpEvent):
            over = self._rect(2).adjusted(0, 0, 0, 2 * _LINE).contains(QPointF(event.pos()))
            words = self.tr(
                "Student − teacher. Blue: the teacher looks there more. Orange: the student does."
            )
            QToolTip.showText(event.globalPos(), words if over else self.toolTip(), self)
            return True
        return super().event(event)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        order = (1, 0, 2) if self._swapped else (0, 1, 2)
        for place, tile in enumerate(order):
            self._paint_tile(painter, place, tile)
            self._paint_text(painter, self._rect(place), tile)
        self._paint_heat_scale(painter)
        if self._tiles[2] is not None:
            self._paint_difference_scale(painter)
        painter.end()


def _fill(painter: QPainter, rect: QRectF, pixmap: QPixmap) -> None:
    """The pixmap in a rounded rectangle with smooth corners."""
    painter.save()
    painter.translate(rect.topLeft())
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QBrush(pixmap))
    painter.drawRoundedRect(QRectF(0, 0, rect.width(), rect.height()), 4, 4)
    painter.restore()


def _in_words(text: TileText) -> str:
    return " ".join(part for part in (text.title, text.says, text.note) if part)
