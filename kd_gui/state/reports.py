"""Fold reports into curves, column by column: what one report costs, a long log costs hundreds of thousands
of times."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from kd_engine.events import StepDone
from kd_gui.state.curves import Curve, Floats


@dataclass
class StudentCurves:
    """What one student's reports said, each over x in epochs. terms: raw; weighted: times their weights."""

    loss: Curve = field(default_factory=Curve)
    lr: Curve = field(default_factory=Curve)
    terms: dict[str, Curve] = field(default_factory=dict)
    weighted: dict[str, Curve] = field(default_factory=dict)

    def all(self) -> list[Curve]:
        return [self.loss, self.lr, *self.terms.values(), *self.weighted.values()]

    def extend(self, x: Floats, reports: Sequence[StepDone]) -> None:
        """Append reports of this student at `x`."""
        self.loss.extend(x, [report.loss for report in reports])
        self.lr.extend(x, [report.lr for report in reports])
        _extend(self.terms, x, [report.terms for report in reports])
        _extend(self.weighted, x, [report.weighted for report in reports])


class Reports:
    """Reports that have come and are not on their curves yet."""

    def __init__(self) -> None:
        self._waiting: list[StepDone] = []

    def add(self, reports: Sequence[StepDone]) -> None:
        self._waiting += reports

    def put_on(self, curves: dict[str, StudentCurves], x_of: Callable[[Floats], Floats]) -> None:
        """Move them to the curves by student, made where there are none. x_of: from steps to x."""
        said: defaultdict[str, list[StepDone]] = defaultdict(list)
        for report in self._waiting:
            said[report.student].append(report)
        self._waiting = []
        for student, reports in said.items():
            x = x_of(np.array([report.step for report in reports], dtype=np.float64))
            curves.setdefault(student, StudentCurves()).extend(x, reports)


def _extend(curves: dict[str, Curve], x: Floats, told: Sequence[Mapping[str, float]]) -> None:
    for name in dict.fromkeys(chain.from_iterable(told)):
        curve = curves.setdefault(name, Curve())
        try:
            curve.extend(x, [terms[name] for terms in told])
        except KeyError:  # a term that was not there all the time
            has = [i for i, terms in enumerate(told) if name in terms]
            curve.extend(x[has], [told[i][name] for i in has])
