"""Teacher-free distillation: soft targets from a virtual teacher that is always right, and unsure evenly
among all other classes."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor

from kd_engine.knobs import Knobs, knob
from kd_engine.methods import Method, MethodKnobs, Terms, full_precision, one_hot
from kd_engine.signals import Shapes, Signals
from kd_engine.tasks import UNLABELLED


class TfKdKnobs(MethodKnobs):
    weight: float = knob(
        0.1,
        "How much the virtual teacher counts in the sum. Published: 0.1 beside 0.9 for the labels.",
        low=0,
        high=10,
        scale="log",
        live=True,
        unit="weight",
    )
    correct: float = knob(
        0.9,
        "The virtual teacher's probability of the right class. Published: 0.9 or more; 0.99 in the authors' "
        "code.",
        low=0.5,
        high=0.999,
        live=True,
    )
    temperature: float = knob(
        20.0,
        "Softens the virtual teacher. Published: 20 or more, where it is almost even over all classes.",
        low=1,
        high=100,
        scale="log",
        live=True,
    )
    softening: Literal["reference", "paper"] = knob(
        "reference",
        "reference: as the published code does it, the probabilities themselves through a softmax, and the "
        "student not softened. paper: both softened as in kd.",
        advanced=True,
    )


class TfKd(Method):
    """KL from a virtual teacher p_d to the student, mean over the labelled samples; logits z (..., C). p_d is
    `correct` for the target class and (1 − correct) / (C − 1) for each other.

    reference: KL(softmax(p_d / T) ‖ softmax(z)): the authors' code sends the probabilities, not their
    logarithms, through the softmax, leaves the student at temperature 1 and has no T². It divides by N · C
    and multiplies by 100, which for its 100 classes is the mean over samples, as here.
    paper:     T² · KL(softmax(log p_d / T) ‖ softmax(z / T)). The paper has no T²; here it keeps the
    gradients' scale, as in `kd`.

    A sample whose label is withheld has no right class: it takes no part. Without a labelled sample the loss
    is 0. What a teacher says is not looked at.
    """

    name: ClassVar[str] = "tf-kd"
    title: ClassVar[str] = "Virtual teacher (Tf-KD)"
    help: ClassVar[str] = (
        "Needs no teacher: the student imitates an invented one, which is right with a given probability. A "
        "kin of label smoothing, and a yardstick for what a real teacher adds."
    )
    family: ClassVar[str] = "self-distillation"
    source: ClassVar[str] = (
        "Yuan, Tay, Li, Wang, Feng: Revisiting Knowledge Distillation via Label Smoothing Regularization, "
        "CVPR 2020. arXiv:1909.11723; reading of github.com/yuanli2333/Teacher-free-Knowledge-Distillation"
    )
    Knobs: ClassVar[type[Knobs]] = TfKdKnobs
    hard_targets: ClassVar[bool] = True
    needs_teacher: ClassVar[bool] = False

    def problems(self, student: Shapes, teacher: Shapes) -> list[str]:
        return [] if student.classes > 1 else ["with one class there is no other to be unsure of"]

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        logits, label = full_precision(student.logits).flatten(0, -2), target.flatten()
        known = label != UNLABELLED
        correct, heat = self.knobs.correct, self.knobs.temperature
        other = (1 - correct) / (logits.shape[-1] - 1)
        right = one_hot(label.clamp(min=0), logits.shape[-1]).to(logits.dtype)
        if self.knobs.softening == "paper":
            virtual = math.log(other) + math.log(correct / other) * right
            logits, square = logits / heat, heat**2
        else:
            virtual = other + (correct - other) * right
            square = 1.0
        each = F.kl_div(
            logits.log_softmax(-1), (virtual / heat).log_softmax(-1), reduction="none", log_target=True
        ).sum(-1)
        return {"tf-kd": square * (each * known).sum() / known.sum().clamp(min=1)}
