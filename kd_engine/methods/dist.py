"""DIST: the student's probabilities need only be correlated with the teacher's, within each sample and within
each class."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from kd_engine.knobs import Knobs, knob
from kd_engine.methods import Terms
from kd_engine.methods._logits import LogitKnobs, LogitMethod
from kd_engine.signals import Signals

EPSILON = 1e-8


class DistKnobs(LogitKnobs):
    weight: float = knob(
        2.0,
        "How much both correlations together count in the sum. Published: 2, beside 1 for the labels; with "
        "temperature 4 on CIFAR and 1 on ImageNet.",
        low=0,
        high=100,
        scale="log",
        live=True,
        unit="weight",
    )
    inter_weight: float = knob(
        1.0,
        "How much the relation between the classes of a sample counts (the paper's β).",
        low=0,
        high=20,
        scale="log",
        live=True,
    )
    intra_weight: float = knob(
        1.0,
        "How much the relation between the samples of a class counts (the paper's γ).",
        low=0,
        high=20,
        scale="log",
        live=True,
    )


class Dist(LogitMethod):
    """τ² · [β · mean over samples of 1 − ρ(rows) + γ · mean over classes of 1 − ρ(columns)], ρ Pearson's
    correlation of the student's probabilities softmax(z_s / τ), (N, C), with the teacher's.

    The terms are `dist_inter` (rows: between the classes of a sample) and `dist_intra` (columns: between the
    samples of a class), β and γ included, 0 to 2 τ² times them. A correlation forgives the student a scale
    and a shift of its probabilities; of its logits it forgives only a constant added to a row, so that
    `standardise` does change the loss here.

    The reference has 1e-8 beside the product of the two lengths, kept here: a row or column that does not
    vary has correlation 0 and no gradient, and at equality the loss is 0 only as far as the probabilities
    vary by more than about 1e-4. With a single sample in the batch no column varies: `dist_intra` is 0. Where
    the temperature differs from sample to sample (schedule "confidence"), each row has its own τ², the
    columns their mean. τ² is the reference's; the paper's formula has none.
    """

    name: ClassVar[str] = "dist"
    title: ClassVar[str] = "Relations by correlation (DIST)"
    help: ClassVar[str] = (
        "The student's probabilities are to be correlated with the teacher's, not equal to them: milder "
        "towards students much smaller than the teacher."
    )
    family: ClassVar[str] = "logits"
    source: ClassVar[str] = (
        "Huang, You, Wang, Qian, Xu: Knowledge Distillation from A Stronger Teacher, NeurIPS 2022. "
        "arXiv:2205.10536; reading of github.com/hunto/image_classification_sota"
    )
    Knobs: ClassVar[type[Knobs]] = DistKnobs

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        heat = self.heat(teacher.logits.flatten(0, -2))
        ours, theirs = ((logits / heat).softmax(-1) for logits in self.logits(student, teacher))
        square = heat**2
        mean_square = square.mean() if isinstance(square, Tensor) else square
        inter = (square * (1 - correlation(ours, theirs))).mean()
        intra = mean_square * (1 - correlation(ours.T, theirs.T)).mean()
        if len(ours) == 1:
            intra = intra * 0
        return {
            "dist_inter": self.knobs.inter_weight * inter,
            "dist_intra": self.knobs.intra_weight * intra,
        }


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's correlation of each row of `a` with that of `b`, (R, K) to (R, 1); 0 where one is
    constant."""
    a, b = (rows - rows.mean(-1, keepdim=True) for rows in (a, b))
    length, other = (torch.linalg.vector_norm(rows, dim=-1, keepdim=True) for rows in (a, b))
    result: Tensor = (a * b).sum(-1, keepdim=True) / (length * other + EPSILON)
    return result
