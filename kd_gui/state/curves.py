"""Numbers that grow while a run goes on: buffers that double, smoothing that only computes what is new."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FEW = 256  # points that a plain loop smooths as quickly as anything
BLOCK = 64
NOTHING = 1e-18  # beside one


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

    def extend(self, x: Sequence[float] | Floats, y: Sequence[float] | Floats) -> None:
        """Append points; `x` goes on from where the curve ends."""
        new = np.empty((2, len(x)))
        new[0], new[1] = x, y
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

    def _smooth(self, curve: Curve, weight: float, breaks: tuple[float, ...]) -> Floats:
        """The new points, stretch by stretch: from one break to the next."""
        x, y = curve.x[self._done :], curve.y[self._done :]
        if x.size < FEW:
            return np.array(self._one_by_one(x, y, weight, breaks))
        out, begin = [], 0
        while begin < x.size:
            before = self._next_break
            while self._next_break < len(breaks) and x[begin] > breaks[self._next_break]:
                self._next_break += 1
            if self._next_break > before:
                self._mean, self._left = 0.0, 1.0
            last = self._next_break == len(breaks)
            end = x.size if last else int(np.searchsorted(x, breaks[self._next_break], side="right"))
            out.append(self._blocks(y[begin:end], weight))
            begin = end
        return np.concatenate(out)

    def _blocks(self, y: Floats, weight: float) -> Floats:
        """The means after each of `y`, in blocks: within one, each mean is a sum over the block, with powers
        of the weight; from block to block only the last is carried on."""
        ages = np.arange(BLOCK)
        within = np.tril((1.0 - weight) * weight ** np.maximum(ages[:, None] - ages, 0))
        fades = weight ** (ages + 1.0)
        padded = np.zeros(-(-y.size // BLOCK) * BLOCK)
        padded[: y.size] = y
        means = padded.reshape(-1, BLOCK) @ within.T
        carried = np.empty(len(means))
        for i, last in enumerate(means[:, -1].tolist()):
            carried[i] = self._mean
            self._mean = last + fades[-1] * self._mean
        out = (means + carried[:, None] * fades).ravel()[: y.size]
        self._mean = float(out[-1])
        # After a while the start is forgotten to the last bit, and powers cost more than all else.
        short = min(y.size, math.ceil(math.log(NOTHING) / math.log(weight)) if weight else 0)
        out[:short] /= 1.0 - self._left * weight ** np.arange(1.0, short + 1.0)
        self._left *= weight**y.size
        return out

    def _one_by_one(
        self, new_x: Floats, new_y: Floats, weight: float, breaks: tuple[float, ...]
    ) -> list[float]:
        mean, left, at = self._mean, self._left, self._next_break
        limit = breaks[at] if at < len(breaks) else math.inf
        out = []
        for x, y in zip(new_x.tolist(), new_y.tolist(), strict=True):
            while x > limit:
                mean, left, at = 0.0, 1.0, at + 1
                limit = breaks[at] if at < len(breaks) else math.inf
            mean = weight * mean + (1.0 - weight) * y
            left *= weight
            out.append(mean / (1.0 - left))
        self._mean, self._left, self._next_break = mean, left, at
        return out

    def _append(self, values: Floats) -> None:
        end = self._done + values.size
        if end > self._out.size:
            self._out = np.concatenate((self._out[: self._done], np.empty(max(end, self._out.size))))
        self._out[self._done : end] = values
        self._done = end
