"""A row of small pictures to choose from: with arrow keys, the wheel or a click; marked where a model is
wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import (
    QBrush,
    QColor,
    QFocusEvent,
    QHelpEvent,
    QImage,
    QKeyEvent,
    QLinearGradient,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPixmap,
    QResizeEvent,
    QWheelEvent,
)
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from kd_gui.theme import font, theme

_SIDE, _GAP, _EDGE = 38, 7, 4  # a picture, between two, and the room for the frame around
_MARK = 3  # the mark below a picture
_KEYS = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1, Qt.Key.Key_PageUp: -8, Qt.Key.Key_PageDown: 8}
_FAR = 1_000_000  # Home and End: past either end


@dataclass(frozen=True)
class Thumb:
    """One picture: its index for the outside, marks, and words for the tooltip. wrong outweighs differs."""

    index: int
    wrong: bool = False
    differs: bool = False
    words: str = ""


class SampleStrip(QWidget):
    """`chosen(index)`: a click. `moved(by)`: arrow keys, in pictures; the owner knows where that leads."""

    chosen = Signal(int)
    moved = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._images: list[QPixmap] = []
        self._thumbs: list[Thumb] = []
        self._current = -1
        self._offset = 0.0
        self._empty = ""
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName(self.tr("Sample pictures"))
        theme().changed.connect(self.update)

    def set_images(self, images: Sequence[QImage]) -> None:
        """All pictures, by index."""
        ratio = self.devicePixelRatioF()
        pixels = round(_SIDE * ratio)
        fit, smooth = Qt.AspectRatioMode.IgnoreAspectRatio, Qt.TransformationMode.SmoothTransformation
        self._images = [QPixmap.fromImage(image.scaled(pixels, pixels, fit, smooth)) for image in images]
        for pixmap in self._images:
            pixmap.setDevicePixelRatio(ratio)
        self.update()

    def set_thumbs(self, thumbs: Sequence[Thumb], empty: str = "") -> None:
        """The pictures to show, in order. empty: what to say when there are none."""
        self._thumbs, self._empty = list(thumbs), empty
        self._reveal()

    def set_current(self, index: int) -> None:
        """Frame this picture and bring it into view."""
        self._current = index
        self._reveal()

    def index_at(self, point: QPointF) -> int | None:
        """The index of the picture at a point of the widget."""
        at = self._place_at(point)
        return None if at is None else self._thumbs[at].index

    def rect_of(self, index: int) -> QRectF | None:
        """Where the picture with this index is drawn; it may lie outside of what can be seen."""
        place = next((i for i, thumb in enumerate(self._thumbs) if thumb.index == index), None)
        return None if place is None else self._rect(place)

    def _rect(self, place: int) -> QRectF:
        return QRectF(_EDGE + place * (_SIDE + _GAP) - self._offset, _EDGE, _SIDE, _SIDE)

    def _place_at(self, point: QPointF) -> int | None:
        return next((i for i in range(len(self._thumbs)) if self._rect(i).contains(point)), None)

    def _most(self) -> float:
        """The largest offset: the last picture at the right edge."""
        content = 2 * _EDGE + len(self._thumbs) * (_SIDE + _GAP) - _GAP
        return float(max(0, content - self.width()))

    def _reveal(self) -> None:
        rect = self.rect_of(self._current)
        if rect is not None:
            room = _SIDE + _GAP  # so that a neighbour is in sight too
            if rect.left() < room:
                self._offset += rect.left() - room - _EDGE
            elif rect.right() > self.width() - room:
                self._offset += rect.right() - self.width() + room + _EDGE
        self._scroll_to(self._offset)

    def _scroll_to(self, offset: float) -> None:
        self._offset = min(max(offset, 0.0), self._most())
        self.update()

    def _paint_thumb(self, painter: QPainter, place: int, thumb: Thumb) -> None:
        rect, tokens = self._rect(place), theme().tokens
        painter.save()
        painter.translate(rect.topLeft())
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QBrush(self._images[thumb.index]))
        painter.drawRoundedRect(QRectF(0, 0, _SIDE, _SIDE), 3, 3)
        painter.restore()
        below = QRectF(rect.left(), rect.bottom() + _EDGE, _SIDE, _MARK)
        if thumb.wrong:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(tokens.bad))
            painter.drawRoundedRect(below, 1.5, 1.5)
        elif thumb.differs:
            pen = QPen(QColor(tokens.warn), _MARK, Qt.PenStyle.DotLine, Qt.PenCapStyle.FlatCap)
            painter.setPen(pen)
            painter.drawLine(
                QPointF(below.left(), below.center().y()), QPointF(below.right(), below.center().y())
            )
        if thumb.index == self._current:
            painter.setPen(QPen(QColor(tokens.student), 2))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(rect.adjusted(-2, -2, 2, 2), 5, 5)
            if self.hasFocus():
                painter.setPen(QPen(QColor(tokens.text), 1))
                painter.drawRoundedRect(rect.adjusted(-3.5, -3.5, 3.5, 3.5), 6, 6)

    def _paint_fades(self, painter: QPainter) -> None:
        """More pictures lie beyond an edge where the strip fades out."""
        surface = QColor(theme().tokens.surface)
        clear = QColor(surface)
        clear.setAlpha(0)
        width, height = 28, self.height()
        painter.setPen(Qt.PenStyle.NoPen)
        for there, left, edge in (
            (self._offset > 0, 0, 0),
            (self._offset < self._most(), self.width() - width, self.width()),
        ):
            if there:
                gradient = QLinearGradient(edge, 0, width if edge == 0 else left, 0)
                gradient.setColorAt(0, surface)
                gradient.setColorAt(1, clear)
                painter.fillRect(QRectF(left, 0, width, height), QBrush(gradient))

    def sizeHint(self) -> QSize:
        return QSize(8 * (_SIDE + _GAP), _SIDE + 2 * _EDGE + _MARK + 1)

    def minimumSizeHint(self) -> QSize:
        return QSize(3 * (_SIDE + _GAP), self.sizeHint().height())

    def keyPressEvent(self, event: QKeyEvent) -> None:
        key = Qt.Key(event.key())
        if key in _KEYS:
            self.moved.emit(_KEYS[key])
        elif key in (Qt.Key.Key_Home, Qt.Key.Key_End):
            self.moved.emit(-_FAR if key == Qt.Key.Key_Home else _FAR)
        else:
            super().keyPressEvent(event)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        index = self.index_at(event.position())
        if index is not None and event.button() == Qt.MouseButton.LeftButton:
            self.chosen.emit(index)

    def wheelEvent(self, event: QWheelEvent) -> None:
        delta = event.angleDelta()
        turned = delta.x() or delta.y()
        if self._most() > 0:
            self._scroll_to(self._offset - turned / 120 * (_SIDE + _GAP))
            event.accept()
        else:
            event.ignore()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._reveal()

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)
        self.update()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        self.update()

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.ToolTip and isinstance(event, QHelpEvent):
            at = self._place_at(QPointF(event.pos()))
            QToolTip.showText(event.globalPos(), "" if at is None else self._thumbs[at].words, self)
            return True
        return super().event(event)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if not self._thumbs:
            painter.setFont(font("caption"))
            painter.setPen(QColor(theme().tokens.muted))
            painter.drawText(
                self.rect(), int(Qt.AlignmentFlag.AlignVCenter | Qt.TextFlag.TextWordWrap), self._empty
            )
        for place, thumb in enumerate(self._thumbs):
            rect = self._rect(place)
            if rect.right() > -_EDGE and rect.left() < self.width() + _EDGE:
                self._paint_thumb(painter, place, thumb)
        self._paint_fades(painter)
        painter.end()
