"""Soft targets: the student learns the teacher's whole distribution, softened by a temperature."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from kd_engine.knobs import Knobs, knob
from kd_engine.methods import Terms
from kd_engine.methods._logits import LogitKnobs, LogitMethod, soft_targets
from kd_engine.signals import Signals


class KdKnobs(LogitKnobs):
    weight: float = knob(
        0.9,
        "How much the soft targets count in the sum. Published: 0.9 beside 0.1 for the labels.",
        low=0,
        high=10,
        scale="log",
        live=True,
        unit="weight",
    )


class Kd(LogitMethod):
    """T² · mean over samples of KL(softmax(z_t / T) ‖ softmax(z_s / T)), z the logits (..., C).

    The paper writes the cross-entropy with soft targets, which has the same gradient; RepDistiller and
    mdistiller compute the KL, as here, so that 0 means "nothing left to learn from this teacher".
    """

    name: ClassVar[str] = "kd"
    title: ClassVar[str] = "Soft targets (KD)"
    help: ClassVar[str] = (
        "The student imitates the teacher's probabilities of all classes. Works between any two models."
    )
    family: ClassVar[str] = "logits"
    source: ClassVar[str] = (
        "Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015. arXiv:1503.02531"
    )
    Knobs: ClassVar[type[Knobs]] = KdKnobs

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        ours, theirs = self.logits(student, teacher)
        return {"kd": soft_targets(ours, theirs, self.heat(teacher.logits.flatten(0, -2)))}
