"""How long a run is, stage by stage, and where a step lies on an axis that counts epochs over all stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kd_engine.events import StageStarted
from kd_gui.state.curves import Floats


class Plan:
    """What the recipe plans, made exact by the stages that have begun."""

    def __init__(self) -> None:
        self._recipe: list[Mapping[str, Any]] = []
        self._begun: dict[int, StageStarted] = {}
        self._last: StageStarted | None = None

    def read(self, document: Mapping[str, Any]) -> None:
        self._recipe = list(document.get("stages", ()))

    def begin(self, stage: StageStarted) -> None:
        self._begun[stage.stage] = self._last = stage

    @property
    def epochs(self) -> int:
        """Of all stages, 0 when unknown."""
        return sum(self._epochs_of(i) for i in range(len(self._recipe)))

    @property
    def steps(self) -> int:
        """Of all stages, as far as can be said."""
        return sum(self._epochs_of(i) * self._pace_of(i) for i in range(len(self._recipe)))

    def epochs_before(self, stage: int) -> int:
        return sum(self._epochs_of(i) for i in range(stage))

    def x_of(self, step: int) -> float:
        """Epochs of the whole run after so many steps; the step itself before any stage has begun."""
        return float(self.xs_of(np.array([step], dtype=np.float64))[0])

    def xs_of(self, steps: Floats) -> Floats:
        """`x_of` of each."""
        if not self._begun:
            return steps
        stages = range(max(self._begun) + 1)
        paces = np.array([self._pace_of(stage) for stage in stages], dtype=np.float64)
        epochs = np.array([self._epochs_of(stage) for stage in stages], dtype=np.float64)
        ends, before = np.cumsum(epochs * paces), np.cumsum(epochs) - epochs
        at = np.searchsorted(ends[:-1], steps, side="left")  # a stage's last step is its own
        pace = paces[at]
        x = before[at] + (steps - (ends - epochs * paces)[at]) / np.where(pace > 0, pace, 1.0)
        return np.where(pace > 0, x, steps)

    def _epochs_of(self, stage: int) -> int:
        if stage in self._begun:
            return self._begun[stage].epochs
        return int(self._recipe[stage].get("epochs", 0)) if stage < len(self._recipe) else 0

    def _pace_of(self, stage: int) -> int:
        """Steps in an epoch; of a stage that has not begun, as many as in the last that has."""
        known = self._begun.get(stage) or self._last
        return known.steps_per_epoch if known is not None else 0
