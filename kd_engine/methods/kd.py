"""Soft targets: the student learns the teacher's whole distribution, softened by a temperature."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from kd_engine.knobs import Knobs, knob
from kd_engine.methods import Method, MethodKnobs, Terms, full_precision
from kd_engine.signals import Signals


class KdKnobs(MethodKnobs):
    weight: float = knob(
        0.9,
        "How much the soft targets count in the sum. Published: 0.9 beside 0.1 for the labels.",
        low=0,
        high=10,
        scale="log",
        live=True,
        unit="weight",
    )
    temperature: float = knob(
        4.0,
        "Softens both distributions: at 1 they are as sharp as in use; higher shows more of how the teacher "
        "ranks the wrong classes.",
        low=1,
        high=20,
        scale="log",
        live=True,
    )


def soft_targets(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL from teacher to student at `temperature`, times its square so that gradients keep their scale.

    student, teacher: logits (..., C). Returns a scalar, nats, the mean over all leading dimensions (PyTorch's
    "batchmean", not "mean", which would be smaller by a factor C); 0 when equal, unchanged by a constant
    added to one row. Half precision is computed in float32. Hinton, Vinyals, Dean 2015, section 2.
    """
    ours = F.log_softmax(full_precision(student).flatten(0, -2) / temperature, dim=-1)
    theirs = F.log_softmax(full_precision(teacher).flatten(0, -2) / temperature, dim=-1)
    kl = F.kl_div(ours, theirs, reduction="sum", log_target=True)
    return kl * (temperature**2 / ours.shape[0])


class Kd(Method):
    """T² · mean over samples of KL(softmax(z_t / T) ‖ softmax(z_s / T)), z the logits (..., C).

    The paper writes the cross-entropy with soft targets, which has the same gradient; RepDistiller and
    mdistiller compute the KL, as here, so that 0 means "nothing left to learn from this teacher".
    """

    name: ClassVar[str] = "kd"
    title: ClassVar[str] = "Soft targets (KD)"
    help: ClassVar[str] = (
        "The student imitates the teacher's probabilities of all classes. Works between any two models."
    )
    source: ClassVar[str] = (
        "Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015. arXiv:1503.02531"
    )
    Knobs: ClassVar[type[Knobs]] = KdKnobs

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        return {"kd": soft_targets(student.logits, teacher.logits, self.knobs.temperature)}
