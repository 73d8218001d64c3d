"""Several teachers at once: soft targets from the mixture of what they say, in equal parts or by how right
each is on the sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from kd_engine.knobs import Knobs, knob
from kd_engine.methods import Terms, full_precision
from kd_engine.methods._logits import Heat, LogitKnobs, LogitMethod, soft_targets
from kd_engine.signals import Signals
from kd_engine.tasks import UNLABELLED


class MultiTeacherKnobs(LogitKnobs):
    weight: float = knob(
        0.9,
        "How much the soft targets count in the sum, as in kd: 0.9 beside 0.1 for the labels.",
        low=0,
        high=10,
        scale="log",
        live=True,
        unit="weight",
    )
    combine: Literal["average", "confidence"] = knob(
        "average",
        "average: all teachers count the same. confidence: on each sample, those count more whose "
        "prediction is closer to the label; where the label is withheld, all count the same.",
        live=True,
    )


class MultiTeacher(LogitMethod):
    """T² · mean over samples of KL(Σ_k w_k p_k ‖ p_s), p = softmax(z / T) of K teachers and the student, (N,
    C).

    average: w_k = 1 / K (You et al. 2017). confidence: w_k = (1 − exp(CE_k) / Σ_j exp(CE_j)) / (K − 1), for
    each sample, CE_k the cross-entropy of teacher k's logits with the label at temperature 1 (Zhang et al.
    2022, equation 2); 1 / K where the label is withheld. Weights are positive and sum to 1. With one teacher
    this is `kd`; 0 when the student says the mixture; the order of the teachers does not matter.

    Both papers write the cross-entropy with the mixture, the second as a sum of one for each teacher: the
    gradient is the same. Their other terms (relations between samples in the first, weighted hints in the
    second) are not part of this method: add one that has them. CA-MKD's code weighs its hints by equation 2
    as here. `standardise` acts on each model's logits before the softmax, not on CE_k. The temperature
    schedule "confidence" goes by the first teacher.
    """

    name: ClassVar[str] = "multi-teacher"
    title: ClassVar[str] = "Several teachers"
    help: ClassVar[str] = (
        "The student imitates a mixture of all the teachers' probabilities. With one teacher it is the same "
        "as soft targets."
    )
    family: ClassVar[str] = "several models"
    source: ClassVar[str] = (
        "You, Xu, Xu, Tao: Learning from Multiple Teacher Networks, KDD 2017; confidence: Zhang, Chen, Wang: "
        "Confidence-Aware Multi-Teacher Knowledge Distillation, ICASSP 2022. arXiv:2201.00007; "
        "reading of github.com/Rorozhl/CA-MKD"
    )
    Knobs: ClassVar[type[Knobs]] = MultiTeacherKnobs
    hard_targets: ClassVar[Mapping[str, str]] = {"combine": "confidence"}

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        members = teacher.members or (teacher,)
        said = [self.logits(student, member) for member in members]
        ours, theirs = said[0][0], torch.stack([logits for _, logits in said])
        heat = self.heat(teacher.logits.flatten(0, -2))
        if self.knobs.combine == "confidence" and len(members) > 1:
            plain = torch.stack([full_precision(member.logits).flatten(0, -2) for member in members])
            weights = confident(plain, target.flatten())
        else:
            weights = torch.full_like(theirs[..., :1], 1 / len(members))
        return {"multi-teacher": soft_targets(ours, heat * mixture(theirs, weights, heat), heat)}


def mixture(logits: Tensor, weights: Tensor, heat: Heat) -> Tensor:
    """Logarithms of the weighted mean of K distributions: logits (K, N, C) softened by `heat`, weights
    (K, N, 1) that sum to 1 over K; (N, C)."""
    return ((logits / heat).log_softmax(-1) + weights.log()).logsumexp(0)


def confident(logits: Tensor, label: Tensor) -> Tensor:
    """How much each of K ≥ 2 teachers counts on each sample, (K, N, 1). logits (K, N, C), label (N,)."""
    teachers = len(logits)
    known = (label != UNLABELLED).view(1, -1, 1)
    index = label.clamp(min=0).view(1, -1, 1).expand(teachers, -1, 1)
    wrong = -logits.log_softmax(-1).gather(-1, index)
    weights = (1 - wrong.softmax(0)) / (teachers - 1)
    return torch.where(known, weights, 1 / teachers)
