"""Where a value stands on a slider, and how it is written: linear or by decades, rounded to what a hand can
mean."""

from __future__ import annotations

import math
from typing import Any

from kd_engine.knobs import Knob

WIDEST = 100  # range of a linear slider; beyond it most values that matter would share one pixel
DECADES = 5  # of a logarithmic slider whose lowest value is 0
ZERO = 0.04  # the share of such a slider that means 0


def slides(knob: Knob) -> bool:
    """Whether a slider can show it: a number with both limits, which on a linear scale are not too far
    apart."""
    if knob.kind != "float" or knob.low is None or knob.high is None or knob.low >= knob.high:
        return False
    return knob.scale == "log" or knob.high - knob.low <= WIDEST


def position(knob: Knob, value: float) -> float:
    """Where `value` stands, 0 to 1. Out of range: at the nearer end."""
    low, high = limits(knob)
    if knob.scale == "linear":
        return _clamp((value - low) / (high - low))
    floor = _floor(knob)
    start = ZERO if low <= 0 else 0.0
    if value < floor:
        return 0.0 if value <= 0 else start
    return _clamp(start + (1 - start) * math.log(value / floor) / math.log(high / floor))


def value_at(knob: Knob, where: float) -> float:
    """The value at a position (0 to 1), rounded to two significant digits, or to a hundredth of a linear
    range."""
    low, high = limits(knob)
    where = _clamp(where)
    if knob.scale == "linear":
        return _inside(knob, _round(low + where * (high - low), _step(high - low)))
    start = ZERO if low <= 0 else 0.0
    if where < start / 2:
        return low
    floor = _floor(knob)
    exact = floor * (high / floor) ** (max(0.0, where - start) / (1 - start))
    return _inside(knob, _round(exact, 10.0 ** (math.floor(math.log10(exact)) - 1)))


def written(value: Any) -> str:
    """A number for a person: 8.0, 0.90, 0.05, 200, 0.0005; typed digits are kept, up to five of them."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) or not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size == 0:
        return "0"
    if size < 1e-4:
        return f"{value:.3g}"
    least = 0 if size >= 100 else 1 if size >= 1 else 2
    most = max(least, 4 - math.floor(math.log10(size)))
    text = f"{value:.{most}f}"
    while text[-1] == "0" and len(text.partition(".")[2]) > least:
        text = text[:-1]
    return text.rstrip(".")


def limits(knob: Knob) -> tuple[float, float]:
    if knob.low is None or knob.high is None:
        raise ValueError(f"{knob.name} has no slider: a limit is open")
    return float(knob.low), float(knob.high)


def _floor(knob: Knob) -> float:
    """The least value above 0 that a logarithmic slider reaches."""
    low, high = limits(knob)
    if low > 0:
        return low
    default = float(knob.default) if knob.default else high
    return min(high * 10.0**-DECADES, default / 10)


def _step(span: float) -> float:
    """1, 2 or 5 times a power of ten, so that a range has about a hundred."""
    rough = span / 100
    power = 10.0 ** math.floor(math.log10(rough))
    return next((factor * power for factor in (1, 2, 5) if factor * power >= rough * 0.999), 10 * power)


def _round(value: float, step: float) -> float:
    """To a multiple of `step`, without the digits that binary fractions add."""
    return round(round(value / step) * step, max(0, 3 - math.floor(math.log10(step))))


def _inside(knob: Knob, value: float) -> float:
    low, high = limits(knob)
    return min(high, max(low, value))


def _clamp(share: float) -> float:
    return min(1.0, max(0.0, share))


def counted(number: int) -> str:
    """A count in short: 640, 78 k, 0.27 M, 11.2 M, 1.3 G."""
    for size, letter in ((10**9, "G"), (10**5, "M"), (10**3, "k")):
        if number >= size:
            share = number / max(size, 10**6 if letter == "M" else size)
            return f"{share:.0f} {letter}" if share >= 20 else f"{share:.{1 if share >= 1 else 2}f} {letter}"
    return str(number)
