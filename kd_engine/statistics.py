"""How sure a figure is: mean and deviation over seeds, intervals of paired differences, the noise of a share.

Plain floats in, plain floats out. Nothing is estimated from a single value: then the answer is None.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

LEVEL = 0.95


@dataclass(frozen=True)
class Spread:
    """n values: their mean, and their standard deviation (n - 1 in the divisor; None for a single one)."""

    n: int
    mean: float
    sd: float | None


@dataclass(frozen=True)
class Gain:
    """Differences of pairs: their spread, and the interval (low, high) in which their mean lies; None for a
    single pair."""

    spread: Spread
    interval: tuple[float, float] | None

    @property
    def clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]


def spread(values: Sequence[float]) -> Spread | None:
    """None without values."""
    if not values:
        return None
    sd = statistics.stdev(values) if len(values) > 1 else None
    return Spread(len(values), math.fsum(values) / len(values), sd)


def paired(ours: Sequence[float], theirs: Sequence[float], level: float = LEVEL) -> Gain | None:
    """What `ours` gain over `theirs`, pair by pair, with Student's t interval of the mean difference (n - 1
    degrees of freedom). None without pairs. ValueError when the two are not of one length."""
    found = spread([a - b for a, b in zip(ours, theirs, strict=True)])
    if found is None or found.sd is None:
        return None if found is None else Gain(found, None)
    half = t_quantile(found.n - 1, 0.5 + level / 2) * found.sd / math.sqrt(found.n)
    return Gain(found, (found.mean - half, found.mean + half))


def t_quantile(freedom: int, share: float) -> float:
    """The value below which `share` of Student's t distribution lies; freedom: its degrees, from 1."""
    from scipy.special import stdtrit  # imports numpy, which light commands do without

    return float(stdtrit(freedom, share))


def share_error(share: float, n: int) -> float:
    """The standard error of a share of n independent samples, as an accuracy is: sqrt(p (1 - p) / n).

    A share of exactly 0 or 1 has none by that formula, which no n samples can show: it is taken as if half a
    sample were different.
    """
    inside = min(max(share, 0.5 / n), 1 - 0.5 / n)
    return math.sqrt(inside * (1 - inside) / n)


def difference_error(one: float, other: float, n: int) -> float:
    """The standard error of the difference of two such shares, as if of samples of their own; on the same
    samples, where both tend to err together, it is at most that, as a rule."""
    return math.hypot(share_error(one, n), share_error(other, n))


def z_for(comparisons: int, level: float = LEVEL) -> float:
    """How many standard errors a difference must exceed, when so many are looked at and at most 1 - level of
    such looks may err (two-sided, Bonferroni)."""
    return statistics.NormalDist().inv_cdf(1 - (1 - level) / (2 * max(comparisons, 1)))
