"""Fewer points that draw the same line: what a screen a few hundred pixels wide can show of a long series.

Bins are counted from the start of the series and their size is a power of two, so that a growing series does
not shimmer: what was drawn once stays as it is until the bins double.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def visible(x: Floats, left: float, right: float) -> slice:
    """The part of the rising `x` in [left, right] and a neighbour on each side, for the line that leaves."""
    first = max(int(np.searchsorted(x, left, side="left")) - 1, 0)
    last = min(int(np.searchsorted(x, right, side="right")) + 1, len(x))
    return slice(first, last)


def peaks(x: Floats, y: Floats, left: float, right: float, columns: int) -> tuple[Floats, Floats]:
    """The lowest and the highest point of each bin: noise keeps its height. At most about 4 × columns."""
    first, size, bins, end = _bins(x, left, right, columns)
    if size == 1:
        part = slice(first, end)
        return x[part], y[part]
    table = y[first : first + bins * size].reshape(bins, size)
    out = np.empty((bins, 2))
    out[:, 0], out[:, 1] = table.min(axis=1), table.max(axis=1)
    at = np.repeat(x[first : first + bins * size : size], 2)
    rest = slice(first + bins * size, end)
    return np.concatenate((at, x[rest])), np.concatenate((out.ravel(), y[rest]))


def means(x: Floats, y: Floats, left: float, right: float, columns: int) -> tuple[Floats, Floats]:
    """The mean of each bin, and the last point as it is: for a smooth line. At most about 2 × columns."""
    first, size, bins, end = _bins(x, left, right, columns)
    if size == 1:
        part = slice(first, end)
        return x[part], y[part]
    whole = slice(first, first + bins * size)
    ends = slice(max(end - 1, first), end)
    at = x[whole].reshape(bins, size).mean(axis=1)
    out = y[whole].reshape(bins, size).mean(axis=1)
    start = slice(first, first + 1)
    return np.concatenate((x[start], at, x[ends])), np.concatenate((y[start], out, y[ends]))


def _bins(x: Floats, left: float, right: float, columns: int) -> tuple[int, int, int, int]:
    """(first point, points in a bin, whole bins, end) of the visible part."""
    part = visible(x, left, right)
    size = 1
    while (part.stop - part.start) > size * 2 * columns:
        size *= 2
    first = part.start // size * size
    return first, size, (part.stop - first) // size, part.stop
