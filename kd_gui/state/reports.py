"""Fold reports into curves, column by column: what one report costs, a long log costs hundreds of thousands
of times."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Any

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
        self.loss.extend(x, column("loss", reports))
        self.lr.extend(x, column("lr", reports))
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
        waiting, self._waiting = self._waiting, []
        for student in dict.fromkeys(map(attrgetter("student"), waiting)):
            reports = [report for report in waiting if report.student == student]
            x = x_of(column("step", reports))
            curves.setdefault(student, StudentCurves()).extend(x, reports)


def column(field: str, reports: Sequence[StepDone]) -> Floats:
    """One number of each report, (n,)."""
    return _array(attrgetter(field), reports)


def _extend(curves: dict[str, Curve], x: Floats, told: Sequence[Mapping[str, float]]) -> None:
    if (columns := _same_terms(told)) is not None:
        for name, values in columns.items():
            curves.setdefault(name, Curve()).extend(x, values)
        return
    for name in dict.fromkeys(chain.from_iterable(told)):
        has = [i for i, terms in enumerate(told) if name in terms]
        curves.setdefault(name, Curve()).extend(x[has], [told[i][name] for i in has])


def _same_terms(told: Sequence[Mapping[str, float]]) -> dict[str, Floats] | None:
    """The columns by name; None where a term was not there all the time."""
    try:
        columns = {name: _array(itemgetter(name), told) for name in told[0]}
    except KeyError:
        return None
    return columns if sum(map(len, told)) == len(told) * len(columns) else None


def _array(value: Callable[[Any], float], told: Sequence[Any]) -> Floats:
    return np.fromiter(map(value, told), np.float64, len(told))
