"""Numbers that grow while a run goes on: buffers that double, smoothing that only computes what is new."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Curve:
    """Points (x, y) with x rising, appended at the end. Points whose y is not finite are left out.

    `x` and `y` are views into a buffer: read them, do not keep them. `version` changes whenever points that
    were there before are dropped, so that a reader who follows the end knows that it must start again.
    """

    def __init__(self) -> None:
        self._points = np.empty((2, 256))
        self.size = 0
        self.version = 0

    def __len__(self) -> int:
        return self.size

    @property
    def x(self) -> Floats:
        return self._points[0, : self.size]

    @property
    def y(self) -> Floats:
        return self._points[1, : self.size]

    def extend(self, x: Sequence[float], y: Sequence[float]) -> None:
        """Append points; `x` goes on from where the curve ends."""
        new = np.array((x, y), dtype=np.float64)
        new = new[:, np.isfinite(new[1])]
        end = self.size + new.shape[1]
        if end > self._points.shape[1]:
            grown = np.empty((2, max(end, 2 * self._points.shape[1])))
            grown[:, : self.size] = self._points[:, : self.size]
            self._points = grown
        self._points[:, self.size : end] = new
        self.size = end

    def cut(self, x: float) -> None:
        """Drop every point after `x`."""
        self.size = int(np.searchsorted(self.x, x, side="right"))
        self.version += 1


class Smoother:
    """An exponential mean that follows a growing curve: a call costs what is new, not what is there.

    weight: 0 (none) to below 1, the share of the past in each point; the start is corrected for its short
    past (as Adam and TensorBoard do), so that the first point is the first value. At each of `breaks` it
    starts afresh: a loss measured with another temperature is another quantity, and must not be averaged
    with the old.
    """

    def __init__(self) -> None:
        self._key: tuple[int, float, tuple[float, ...]] | None = None
        self._out = np.empty(256)
        self._done = 0
        self._mean = 0.0
        self._left = 1.0  # what is still missing of the weights' sum
        self._next_break = 0

    def follow(self, curve: Curve, weight: float, breaks: tuple[float, ...] = ()) -> Floats:
        """The smoothed y of all of `curve`; a view, valid until the next call. `breaks`: rising x."""
        key = (curve.version, weight, breaks)
        if key != self._key or curve.size < self._done:
            self._key, self._done, self._next_break = key, 0, 0
            self._mean, self._left = 0.0, 1.0
        if curve.size > self._done:
            self._append(self._smooth(curve, weight, breaks))
        return self._out[: self._done]

    def _smooth(self, curve: Curve, weight: float, breaks: tuple[float, ...]) -> list[float]:
        mean, left, at = self._mean, self._left, self._next_break
        limit = breaks[at] if at < len(breaks) else math.inf
        out = []
        # A plain loop: each point needs the last, and there are few new ones at a time.
        new = slice(self._done, None)
        for x, y in zip(curve.x[new].tolist(), curve.y[new].tolist(), strict=True):
            while x > limit:
                mean, left, at = 0.0, 1.0, at + 1
                limit = breaks[at] if at < len(breaks) else math.inf
            mean = weight * mean + (1.0 - weight) * y
            left *= weight
            out.append(mean / (1.0 - left))
        self._mean, self._left, self._next_break = mean, left, at
        return out

    def _append(self, values: list[float]) -> None:
        end = self._done + len(values)
        if end > self._out.size:
            self._out = np.concatenate((self._out[: self._done], np.empty(max(end, self._out.size))))
        self._out[self._done : end] = values
        self._done = end
