"""How a loss's weight or a temperature changes over a run: named functions of the share that is done."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

Course = Literal["constant", "linear", "cosine", "warm-up"]


class Clock(NamedTuple):
    """How far a stage is, this step included. epoch: epochs, from 0; share: of the whole stage, 0 to 1."""

    epoch: float
    share: float

    def before(self, share: float) -> bool:
        """Whether so much is not done yet; once false, it stays so."""
        return self.share < share


END = Clock(math.inf, 1.0)  # where a method stands that is used outside a run: every warm-up is over


def between(course: Course, clock: Clock, start: float, end: float, warmup: float) -> float:
    """The value in force, on its way from `start` to `end`.

    constant: `start`. linear, cosine: from `start` at the beginning to `end` at the end of the stage, in a
    straight line or along half a cosine wave. warm-up: the other way round, from `end` to `start` in a
    straight line over the first `warmup` (a share of the stage), then `start`.
    """
    if course == "linear":
        return start + (end - start) * clock.share
    if course == "cosine":
        return end + (start - end) * (1 + math.cos(math.pi * clock.share)) / 2
    if course == "warm-up" and clock.before(warmup):
        return end + (start - end) * clock.share / warmup
    return start
