"""Where the lines of a grid lie and what stands beside them: round numbers, as few as a calm axis needs."""

from __future__ import annotations

import math

ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)
SLACK = 1e-9  # of a step: sums of decimals do not end exactly where they should


def nice_step(span: float, most: int) -> float:
    """The smallest round step of which at most `most` fit into `span`."""
    if span <= 0 or not math.isfinite(span):
        return 1.0
    rough = span / max(most, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * r for r in ROUND if power * r >= rough * (1 - SLACK))


def nice_range(low: float, high: float, most: int) -> tuple[float, float]:
    """`low` and `high` moved outwards to round numbers. Equal ones are moved apart."""
    if not high > low:
        room = abs(high) * 0.1 or 1.0
        low, high = low - room, high + room
    step = nice_step(high - low, most)
    return math.floor(low / step + SLACK) * step, math.ceil(high / step - SLACK) * step


def ticks(low: float, high: float, most: int) -> list[float]:
    """Multiples of a round step from `low` to `high`; about `most`, and at least two where they differ."""
    step = nice_step(high - low, most)
    first, last = math.ceil(low / step - SLACK), math.floor(high / step + SLACK)
    if last <= first and high > low:
        return ticks(low, high, most + 1)  # a finer step: one line is no scale
    return [i * step for i in range(first, last + 1)]


def count_ticks(low: float, high: float, most: int) -> list[float]:
    """As `ticks` for what is counted in whole numbers; from zero to a total, its last tick is the total."""
    span = high - low
    if span < most:
        return [value for value in ticks(low, high, most) if value == round(value)] or [low, high]
    if low == 0 and high == round(high):
        for parts in range(most, 2, -1):
            if span % parts == 0:
                return [i * span / parts for i in range(parts + 1)]
    return [value for value in ticks(low, high, most) if abs(value - round(value)) < SLACK]


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Ticks for an axis of powers of ten: `low`, `high` and the result are exponents."""
    decades = [float(i) for i in range(math.ceil(low - SLACK), math.floor(high + SLACK) + 1)]
    if len(decades) >= 3 or high - low > 2:
        every = max(1, math.ceil(len(decades) / max(most, 1)))
        return decades[::every]
    whole = range(math.floor(low), math.ceil(high) + 1)
    fine = [i + math.log10(r) for i in whole for r in (1, 2, 5)]
    inside = [value for value in fine if low - SLACK <= value <= high + SLACK]
    return inside if 2 <= len(inside) <= most + 2 else decades or [low, high]


def log_range(low: float, high: float) -> tuple[float, float]:
    """Exponents moved outwards to the next 1, 2 or 5."""
    steps = [0.0, math.log10(2), math.log10(5), 1.0]
    down = math.floor(low) + max(s for s in steps if s <= low - math.floor(low) + SLACK)
    up = math.floor(high) + min(s for s in steps if s >= high - math.floor(high) - SLACK)
    return (down, up) if up > down else (down - 1, up + 1)


def words(value: float, step: float) -> str:
    """A tick's label, with as many decimals as its step needs; 0 is "0"."""
    if abs(value) < abs(step) * 1e-6:
        return "0"
    if abs(step) >= 1:
        return f"{value:,.0f}" if step == round(step) else f"{value:g}"
    if step < 1e-4:
        return f"{value:.0e}".replace("e-0", "e-")
    decimals = -math.floor(math.log10(step) + SLACK)
    exact = abs(step * 10**decimals - round(step * 10**decimals)) < 1e-6
    return f"{value:.{decimals if exact else decimals + 1}f}"


def short(value: float) -> str:
    """A number to read beside a curve: three figures."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) < 1e-3:
        return f"{value:.1e}".replace("e-0", "e-")
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}"
