"""Where a number lies on the screen, and back: the one mapping that grid, curves and read-outs share."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtCore import QPointF, QRectF


@dataclass(frozen=True)
class Frame:
    """A rectangle of the widget, in pixels, and the ranges it shows. With `log`, y is an exponent of ten."""

    rect: QRectF
    x0: float = 0.0
    x1: float = 1.0
    y0: float = 0.0
    y1: float = 1.0
    log: bool = False

    def px(self, x: float) -> float:
        return self.rect.left() + (x - self.x0) / (self.x1 - self.x0) * self.rect.width()

    def py(self, y: float) -> float:
        return self.rect.bottom() - (y - self.y0) / (self.y1 - self.y0) * self.rect.height()

    def point(self, x: float, y: float) -> QPointF:
        return QPointF(self.px(x), self.py(y))

    def x(self, px: float) -> float:
        return self.x0 + (px - self.rect.left()) / self.rect.width() * (self.x1 - self.x0)

    def y(self, py: float) -> float:
        return self.y0 + (self.rect.bottom() - py) / self.rect.height() * (self.y1 - self.y0)
