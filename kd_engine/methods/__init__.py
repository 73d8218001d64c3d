"""Distillation methods: (student signals, teacher signals, target) to named losses. A method never runs a model.

One paper, one file. A method is an nn.Module so that its trainable parts (a regressor, say) are saved, moved and
optimised with the student. It learns the shapes once, in `prepare`, before training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from kd_engine.errors import KdError
from kd_engine.knobs import Knobs, knob
from kd_engine.registry import Plugin, find
from kd_engine.signals import Shapes, Signals

Terms = dict[str, Tensor]


class MethodKnobs(Knobs):
    """What every method has: its weight in the total loss. Subclasses restate it with their published default."""

    weight: float = knob(
        1.0, "How much this loss counts in the sum.", low=0, high=1e5, scale="log", live=True, unit="weight"
    )


class Method(nn.Module, Plugin):
    """Base of all methods. Subclasses set `name`, `title`, `help`, `source`, `Knobs`, and write `terms`.

    Settings are read from `self.knobs` at each call: live knobs are changed by replacing it.
    """

    Knobs: ClassVar[type[Knobs]] = MethodKnobs

    def __init__(self, knobs: Any) -> None:
        super().__init__()
        self.knobs = knobs
        self.prepared = False

    def student_taps(self, student: Shapes, teacher: Shapes) -> tuple[str, ...]:
        """Which of the student's taps (or attention blocks) this method reads. Empty: logits only."""
        return ()

    def teacher_taps(self, student: Shapes, teacher: Shapes) -> tuple[str, ...]:
        """Which of the teacher's taps it reads."""
        return ()

    def problems(self, student: Shapes, teacher: Shapes) -> list[str]:
        """Why it cannot work between two such models; empty when it can. Called by the recipe check, before training."""
        return []

    def build(self, student: Shapes, teacher: Shapes) -> None:
        """Make the trainable parts, where there are any. Called once."""

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        """Named scalar losses, unweighted, means over the batch."""
        raise NotImplementedError(type(self))

    def prepare(self, student: Shapes, teacher: Shapes) -> None:
        """Check and build for two models of such shapes. KdError with every reason when it cannot work."""
        if why := self.problems(student, teacher):
            raise KdError(f"method '{self.name}' cannot work here: " + "; ".join(why))
        self.build(student, teacher)
        self.prepared = True

    def forward(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        """As `terms`. A method that was not prepared learns the shapes from these very signals."""
        if not self.prepared:
            self.prepare(student.shapes(), teacher.shapes())
            self.to(student.logits.device)
        return self.terms(student, teacher.detach(), target)

    @classmethod
    def facts(cls) -> Mapping[str, Any]:  # type: ignore[override]
        return {}


Base = Method


def create(name: str, **knobs: Any) -> Method:
    """A method by name, e.g. `create("kd", temperature=4.0)`. KdError for an unknown name, with a suggestion."""
    plugin: type[Method] = find("methods", name)
    return plugin(plugin.Knobs(**knobs))
