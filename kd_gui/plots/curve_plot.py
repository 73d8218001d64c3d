"""Curves that grow while they are looked at: grid, lines, legend, zoom, crosshair; cheap 20 times a second.

The panel shows series and calls `redraw`. Only what changed is drawn anew: lines are thinned to what the
screen can show before pyqtgraph sees them (see decimate): faster and calmer than thinning inside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QRectF, QSize, Qt, Signal
from PySide6.QtGui import QHideEvent, QPainter, QPaintEvent, QResizeEvent, QShowEvent
from PySide6.QtWidgets import QSizePolicy, QVBoxLayout, QWidget

from kd_gui.plots import ticks
from kd_gui.plots.decimate import Floats
from kd_gui.plots.fit import Scale, fit_y
from kd_gui.plots.frame import Frame
from kd_gui.plots.grid import paint_grid
from kd_gui.plots.legend import Entry, Legend
from kd_gui.plots.line import Line
from kd_gui.plots.overlay import Level, Overlay, Reading, Row, Spot
from kd_gui.plots.series import Series
from kd_gui.theme import font, theme

MARGINS = (40, 14, 16, 20)  # left, top, right, bottom of the frame: room for the labels
PAD = 4  # the curves' own view is so much larger on each side that no line is cut in half at the frame


class _Pane(QWidget):
    """What the curves and all that lies over them share."""

    resized = Signal()

    def resizeEvent(self, event: QResizeEvent) -> None:
        self.resized.emit()


class CurvePlot(QWidget):
    """Lines over x. `pointed(x)`: the crosshair stands at x, or None: for the plots beside this one."""

    pointed = Signal(object)

    def __init__(self, parent: QWidget | None = None, *, value: Callable[[float], str] = ticks.short) -> None:
        """value: how a number is written in the read-out."""
        super().__init__(parent)
        self._value = value
        self._lines: dict[str, Line] = {}
        self._wished: dict[
            str, bool
        ] = {}  # which lines a person has hidden or shown, also while they are gone
        self._scale = Scale()
        self._span, self._unit = 1.0, self.tr("epoch")
        self._skip = 0.0
        self._zoom: tuple[float, float, float | None, float | None] | None = None
        self._cursor: float | None = None
        self._ranges_stale = True
        self._pane = _Pane(self)
        self._pane.resized.connect(self._resized)
        self._view = pg.GraphicsView(self._pane, useOpenGL=False, background=None)
        self._view.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self._view.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._view.setStyleSheet("background: transparent; border: none;")
        self._box = pg.ViewBox(enableMenu=False, enableMouse=False, defaultPadding=0.0)
        self._box.disableAutoRange()
        self._view.setCentralItem(self._box)
        self.overlay = Overlay(self._pane)
        self.overlay.pointed.connect(self._pointed)
        self.overlay.dragged.connect(self._dragged)
        self.overlay.doubled.connect(self.fit)
        self.legend = Legend(self)
        self.legend.toggled.connect(self.toggle)
        self.legend.alone.connect(self.solo)
        self._lay_out()
        theme().changed.connect(self._recolor)

    def _lay_out(self) -> None:
        self._pane.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self._pane.setMinimumSize(200, 78)
        self._column = column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(self._pane, 1)
        column.addWidget(self.legend)
        self.legend.setContentsMargins(MARGINS[0], 0, MARGINS[2], 0)
        self.setFont(font("caption"))

    # -- what a panel shows

    @property
    def frame(self) -> Frame:
        return self.overlay.frame

    @property
    def zoomed(self) -> bool:
        return self._zoom is not None

    @property
    def reading(self) -> Reading | None:
        """What the crosshair reads now."""
        return self.overlay.reading

    def series(self) -> list[str]:
        return list(self._lines)

    def line(self, key: str) -> Line:
        return self._lines[key]

    def is_shown(self, key: str) -> bool:
        return self._lines[key].shown

    def set_value(self, value: Callable[[float], str]) -> None:
        self._value = value

    def set_span(self, span: float, unit: str) -> None:
        """x goes from 0 to `span`; `unit` is what one of it is called."""
        if (span, unit) != (self._span, self._unit):
            self._span, self._unit = span, unit
            self.legend.set_unit(unit)
            self._ranges_stale = True

    def set_scale(self, scale: Scale) -> None:
        if scale != self._scale:
            self._scale, self._ranges_stale = scale, True
            self._zoom = None if self._zoom is None else (*self._zoom[:2], None, None)
            for line in self._lines.values():
                line.stale = True

    def set_skip(self, share: float) -> None:
        """Leave the first share of the span out of the fitted range."""
        if share != self._skip:
            self._skip, self._ranges_stale = share, True

    def show_series(self, series: Series, x: Floats, y: Floats, raw: Floats | None, stamp: Hashable) -> None:
        """Points of a line, by reference; `raw`: the same unsmoothed, drawn faint behind. The same `stamp` as
        last time means that nothing changed."""
        line = self._lines.get(series.key)
        if line is None:
            line = self._lines[series.key] = Line(series, self._box)
            line.show(self._wished.get(series.key, line.shown))
        line.put(series, x, y, raw, stamp)

    def keep(self, keys: Sequence[str]) -> None:
        """Drop the lines of all other keys, and order the legend as `keys`."""
        for key in [key for key in self._lines if key not in keys]:
            self._lines.pop(key).remove()
            self._ranges_stale = True
        self._lines = {key: self._lines[key] for key in keys if key in self._lines}

    def set_markers(self, markers: Sequence[tuple[float, str]], *, labels: bool = True) -> None:
        """Vertical lines where something changed; without labels only the crosshair tells what."""
        if tuple(markers) != self.overlay.markers:
            self.overlay.markers = tuple(markers)
            self.overlay.update()
        self.overlay.with_labels = labels

    def set_levels(self, levels: Sequence[Level]) -> None:
        if tuple(levels) != self.overlay.levels:
            self.overlay.levels = tuple(levels)
            self._ranges_stale = True

    def set_spots(self, spots: Sequence[Spot]) -> None:
        self.overlay.spots = tuple(spots)

    def set_message(self, message: str) -> None:
        """Words in the middle of the frame, where there is nothing to draw yet."""
        if message != self.overlay.message:
            self.overlay.message = message
            self.overlay.update()

    def redraw(self) -> None:
        """Draw what changed since the last call. Nothing changed: costs nothing."""
        stale = [line for line in self._lines.values() if line.stale]
        if not stale and not self._ranges_stale:
            return
        self._fit_ranges()
        for line in self._lines.values():
            if line.stale:
                line.draw(self.frame)
        self._read()
        self._show_legend()
        self.overlay.update()

    # -- what a person does

    def fit(self) -> None:
        """All of it again."""
        self._zoom = None
        self._ranges_stale = True
        self.redraw()

    def zoom(self, x0: float, x1: float, y0: float | None = None, y1: float | None = None) -> None:
        """Show a part; without y it is fitted to what lies in the part."""
        if x1 - x0 > self._span * 1e-6:
            self._zoom = (x0, x1, y0, y1)
            self._ranges_stale = True
            self.redraw()

    def toggle(self, key: str) -> None:
        self._show_only({k for k, line in self._lines.items() if line.shown != (k == key)})

    def solo(self, key: str) -> None:
        """Show this line alone; when it is alone already, all."""
        shown = {k for k, line in self._lines.items() if line.shown}
        self._show_only(set(self._lines) if shown == {key} else {key})

    def point_at(self, x: float | None, *, values: bool = True) -> None:
        """Put the crosshair at x, or take it away. values: with the read-out."""
        self._cursor = x
        self.overlay.with_values = values
        self._read()
        self.overlay.update()

    def _show_only(self, keys: set[str]) -> None:
        for key, line in self._lines.items():
            line.show(key in keys)
            self._wished[key] = line.shown
        self._ranges_stale = True
        self.redraw()

    def _pointed(self, x: float | None) -> None:
        if x is not None or self._cursor is not None:
            self.point_at(x)
            self.pointed.emit(x)

    def _dragged(self, part: QRectF) -> None:
        frame = self.frame
        whole_height = part.height() >= frame.rect.height() - 1
        y0 = None if whole_height else frame.y(part.bottom())
        y1 = None if whole_height else frame.y(part.top())
        self.zoom(frame.x(part.left()), frame.x(part.right()), y0, y1)

    # -- drawing

    def _fit_ranges(self) -> None:
        """Choose the ranges; when they moved, every line must be drawn anew."""
        rect = QRectF(self._pane.rect()).adjusted(MARGINS[0], MARGINS[1], -MARGINS[2], -MARGINS[3])
        if rect.width() < 10 or rect.height() < 10:
            return
        x0, x1 = (0.0, self._span) if self._zoom is None else self._zoom[:2]
        y0, y1 = (None, None) if self._zoom is None else self._zoom[2:]
        if y0 is None or y1 is None:
            y0, y1 = self._fitted(x0, x1, rect.height())
        frame = Frame(rect, x0, x1, y0, y1, self._scale.log)
        if frame != self.frame:
            self.overlay.frame = frame
            pad_x, pad_y = PAD * (x1 - x0) / rect.width(), PAD * (y1 - y0) / rect.height()
            self._view.setGeometry(rect.adjusted(-PAD, -PAD, PAD, PAD).toRect())
            self._box.setRange(xRange=(x0 - pad_x, x1 + pad_x), yRange=(y0 - pad_y, y1 + pad_y), padding=0.0)
            for line in self._lines.values():
                line.stale = True
            self.update()
        self._ranges_stale = False

    def _fitted(self, x0: float, x1: float, height: float) -> tuple[float, float]:
        whole = self._zoom is None
        left = max(x0, self._skip * self._span) if whole else x0
        parts = [line.inside(left, x1) for line in self._lines.values()]
        levels = [level.y for level in self.overlay.levels] if whole else []
        return fit_y(parts, levels, self._scale, height, whole=whole)

    def _show_legend(self) -> None:
        self.legend.show_entries(
            [Entry(k, ln.series.title, *ln.series.style(), ln.shown) for k, ln in self._lines.items()]
        )

    def _recolor(self) -> None:
        for line in self._lines.values():
            line.recolor()
        self._read()
        self._show_legend()
        self.overlay.update()
        self.update()

    # -- the read-out

    def _read(self) -> None:
        """What every line says at the crosshair, snapped to the nearest point of the longest one."""
        lines = [line for line in self._lines.values() if line.shown and line.x.size]
        if self._cursor is None or not lines:
            self.overlay.reading = None
            return
        longest = max(lines, key=lambda line: line.x.size)
        x = float(longest.x[_nearest(longest.x, self._cursor)])
        rows = [self._row(line, x) for line in lines]
        title = f"{self._unit} {x:.4g}"
        near = 3 * (self.frame.x1 - self.frame.x0) / self.frame.rect.width()
        changes = [text for at, text in self.overlay.markers if abs(at - x) <= near]
        self.overlay.reading = Reading(x, "  ·  ".join([title, *changes]), tuple(rows))

    def _row(self, line: Line, x: float) -> Row:
        y = float(line.y[_nearest(line.x, x)])
        shown = math.log10(y) if self._scale.log and y > 0 else y
        inside = self.frame.y0 <= shown <= self.frame.y1
        color, dash = line.series.style()
        return Row(line.series.title, self._value(y), color, dash, shown if inside else None)

    def _resized(self) -> None:
        self.overlay.setGeometry(self._pane.rect())
        self._ranges_stale = True
        self.redraw()

    # -- Qt

    def sizeHint(self) -> QSize:
        return QSize(520, 190)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._column.activate()
        self.redraw()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self._cursor = self.overlay.reading = None

    def paintEvent(self, event: QPaintEvent) -> None:
        """Grid and labels; the curves lie above, in their own view."""
        painter = QPainter(self)
        paint_grid(painter, self.frame)
        painter.end()


def _nearest(x: Floats, at: float) -> int:
    """The index of the point nearest to `at`; `x` rises and is not empty."""
    right = min(int(np.searchsorted(x, at)), len(x) - 1)
    left = max(right - 1, 0)
    return left if at - x[left] <= x[right] - at else right
