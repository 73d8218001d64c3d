"""One line of a plot: smoothed and bold, with what was measured faint behind it."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QColor, QPen

from kd_gui.plots import decimate
from kd_gui.plots.decimate import Floats
from kd_gui.plots.frame import Frame
from kd_gui.plots.series import Series
from kd_gui.theme import theme

BOLD, THIN = 1.8, 1.0
DASH = 4  # half the length, in pixels, of what stands for a lone point
FAINT = 0.3  # how much of its colour the measured line keeps


class _Item(pg.PlotCurveItem):
    """Takes the frame, and as much around it, for its bounds: Qt asks for them several times a drawing, and
    pyqtgraph's answer looks at every point and at the pen's width in pixels."""

    _room = QRectF()  # in the units of the curves

    def set_room(self, frame: Frame) -> None:
        wide, high = frame.x1 - frame.x0, frame.y1 - frame.y0
        room = QRectF(frame.x0 - wide, frame.y0 - high, 3 * wide, 3 * high)
        if room != self._room:
            self.prepareGeometryChange()
            self._room = room

    def boundingRect(self) -> QRectF:
        return self._room


class Line:
    """Two items in a ViewBox and the points, by reference, that they show. `stale`: they show older ones."""

    def __init__(self, series: Series, box: pg.ViewBox) -> None:
        self.series = series
        self.x = self.y = np.empty(0)
        self.raw: Floats | None = None
        self.shown = not series.hidden
        self.stale = True
        self._stamp: Hashable = None
        self._box = box
        # Empty arrays: without any, pyqtgraph drops the options.
        options = {"x": np.empty(0), "y": np.empty(0), "skipFiniteCheck": True}
        self.raw_item = _Item(**options, antialias=False)
        self.item = _Item(**options, antialias=True)
        self.item.setZValue(1 if series.thin else 2)
        for item in (self.raw_item, self.item):
            box.addItem(item, ignoreBounds=True)
        self.recolor()
        self.show(self.shown)

    def put(self, series: Series, x: Floats, y: Floats, raw: Floats | None, stamp: Hashable) -> None:
        """New points; the `stamp` of last time says that they are the same."""
        if series != self.series:
            self.series = series
            self.recolor()
        if stamp != self._stamp:
            self._stamp, self.stale = stamp, True
        self.x, self.y, self.raw = x, y, raw

    def show(self, shown: bool) -> None:
        self.shown = shown
        self.item.setVisible(shown)
        self.raw_item.setVisible(shown and self.raw is not None)

    def recolor(self) -> None:
        color, dash = self.series.style()
        pen = QPen(QColor(color), THIN if self.series.thin else BOLD, dash)
        pen.setCosmetic(True)
        pen.setCapStyle(Qt.PenCapStyle.FlatCap)
        pen.setJoinStyle(Qt.PenJoinStyle.BevelJoin)  # half the price of round ones
        self.item.setPen(pen)
        faint = QPen(_mixed(color, theme().tokens.surface, FAINT), 1.0)
        faint.setCosmetic(True)
        self.raw_item.setPen(faint)

    def draw(self, frame: Frame) -> None:
        """Hand over as many points as the frame has room for: a wide antialiased line pays for each."""
        columns = max(int(frame.rect.width()), 100)
        for item in (self.item, self.raw_item):
            item.set_room(frame)
        x, y = decimate.means(self.x, self.y, frame.x0, frame.x1, columns // 5)
        if len(x) == 1:  # a point has no length: a short dash stands for the first epoch
            half = DASH * (frame.x1 - frame.x0) / max(frame.rect.width(), 1)
            x, y = x + np.array([-half, half]), np.repeat(y, 2)
        self.item.setData(x, _drawn(y, frame))
        self.raw_item.setVisible(self.shown and self.raw is not None)
        if self.raw is not None:
            x, y = decimate.peaks(self.x, self.raw, frame.x0, frame.x1, columns // 2)
            self.raw_item.setData(x, _drawn(y, frame))
        self.stale = False

    def inside(self, left: float, right: float) -> Floats:
        """The y of what is shown between two x."""
        return self.y[decimate.visible(self.x, left, right)] if self.shown else self.y[:0]

    def remove(self) -> None:
        self._box.removeItem(self.item)
        self._box.removeItem(self.raw_item)


def _drawn(y: Floats, frame: Frame) -> Floats:
    """Values as drawn: exponents on a logarithmic axis, off whose lower end goes what is not positive."""
    return np.log10(np.maximum(y, 10.0 ** (frame.y0 - 2))) if frame.log else y


def _mixed(color: str, ground: str, share: float) -> QColor:
    """`color` laid over `ground` so that a `share` of it shows: opaque, which draws faster than alpha."""
    over, under = QColor(color), QColor(ground)
    red = share * over.red() + (1 - share) * under.red()
    green = share * over.green() + (1 - share) * under.green()
    blue = share * over.blue() + (1 - share) * under.blue()
    return QColor(round(red), round(green), round(blue))
