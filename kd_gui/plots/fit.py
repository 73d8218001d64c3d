"""Which range of y to show: round numbers around the data, so that an axis seldom moves as a curve grows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kd_gui.plots import ticks
from kd_gui.plots.decimate import Floats

EACH = 30  # pixels between two lines of the grid, at least
TINY = 1e-12  # the smallest value that a logarithmic axis tries to hold


@dataclass(frozen=True)
class Scale:
    """How y is shown. low, high: limits that the fitted range does not pass. from_zero: it starts there when
    it can."""

    log: bool = False
    low: float | None = None
    high: float | None = None
    from_zero: bool = False


def most(length: float, each: int = EACH) -> int:
    """How many steps of a grid find room in so many pixels."""
    return max(int(length) // each, 2)


def fit_y(
    parts: Sequence[Floats], levels: Sequence[float], scale: Scale, height: float, *, whole: bool = True
) -> tuple[float, float]:
    """The range (exponents of ten on a logarithmic scale) that holds all `parts` and `levels`.

    height: in pixels. whole: all of x is shown; a part of it is fitted tightly.
    """
    low, high = _extent([*parts, np.array(levels, dtype=np.float64)], scale)
    if scale.log:
        return ticks.log_range(math.log10(max(low, TINY)), math.log10(max(high, TINY)))
    if scale.from_zero and whole and low >= 0:
        low = 0.0
    low, high = ticks.nice_range(low, high, most(height))
    low = low if scale.low is None else max(low, scale.low)
    return low, high if scale.high is None else min(high, scale.high)


def _extent(parts: Sequence[Floats], scale: Scale) -> tuple[float, float]:
    """The lowest and the highest of all values that the scale can show."""
    low, high = math.inf, -math.inf
    for part in parts:
        values = part[part > 0] if scale.log else part
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    return (low, high) if low <= high else (scale.low or 0.0, scale.high or 1.0)
