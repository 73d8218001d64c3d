"""Correlation congruence: samples of a batch relate to each other in the student as in the teacher."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from kd_engine.knobs import Knobs, knob
from kd_engine.methods import MethodKnobs, Terms, full_precision
from kd_engine.methods._features import Pair, PairMethod, both_embeddings, exact_products, unit_rows
from kd_engine.signals import Shapes, Signals


class CcKnobs(MethodKnobs):
    weight: float = knob(
        0.02,
        "How much the correlation counts in the sum. Published: 0.02 for the reference's form. The paper's "
        "form has far smaller numbers and wants far more.",
        low=0,
        high=1e4,
        scale="log",
        live=True,
        unit="weight",
    )
    form: Literal["reference", "paper"] = knob(
        "reference",
        "reference: products of neighbouring samples' differences, as in the published tables; depends on "
        "the order of the batch. paper: likenesses of all pairs by a Gaussian kernel.",
    )
    width: int = knob(
        128, "Size of the two trained embeddings that are compared.", low=1, high=2048, advanced=True
    )
    gamma: float = knob(
        0.4,
        "How fast likeness fades with distance in the paper's kernel.",
        low=0.01,
        high=4,
        scale="log",
        live=True,
        advanced=True,
    )
    order: int = knob(
        2, "Up to which power the paper's kernel is expanded.", low=1, high=8, live=True, advanced=True
    )


class Cc(PairMethod):
    """e = linear layer of the pooled embedding, one for the student and one for the teacher, both trained.

    reference: mean over i of Σ_d δ_id δ_(i+1)d, with δ = |e_s − e_t| (N, width)
    paper:     mean over i, j of (k(u_i^s, u_j^s) − k(u_i^t, u_j^t))², u = e scaled to length 1, and
               k(x, y) = e^(−2γ) Σ_{p=0..order} (2γ)^p / p! · (x·y)^p, the Taylor series of
               exp(−γ‖x − y‖²)

    RepDistiller's form, given to it by the authors, multiplies neighbours in the batch: **its value depends
    on the batch's order**. It also pulls both embeddings together, sample by sample. The paper's form does
    neither; it has γ = 0.4 and order 2. A batch of one sample gives 0. The trained parts are dropped at
    export.
    """

    name: ClassVar[str] = "cc"
    title: ClassVar[str] = "Correlation congruence (CC)"
    help: ClassVar[str] = (
        "Within a batch, samples are correlated in the student as in the teacher. Compares two small trained "
        "embeddings; sizes may differ."
    )
    family: ClassVar[str] = "relations"
    source: ClassVar[str] = (
        "Peng et al.: Correlation Congruence for Knowledge Distillation, ICCV 2019. arXiv:1904.01802; "
        "reading of github.com/HobbitLong/RepDistiller"
    )
    Knobs: ClassVar[type[Knobs]] = CcKnobs
    depends_on_order: ClassVar[bool] = True
    wants: ClassVar[str] = "pooled embeddings in both models"

    def __init__(self, knobs: Any) -> None:
        super().__init__(knobs)
        self.of_student: nn.Module = nn.Identity()
        self.of_teacher: nn.Module = nn.Identity()

    def choose(self, student: Shapes, teacher: Shapes) -> tuple[Pair, ...]:
        return both_embeddings(student, teacher)

    def build(self, student: Shapes, teacher: Shapes) -> None:
        super().build(student, teacher)
        self.of_student = nn.Linear(student.taps["embedding"][0], self.knobs.width)
        self.of_teacher = nn.Linear(teacher.taps["embedding"][0], self.knobs.width)

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        with exact_products(student.logits):
            ours = self.of_student(full_precision(student.taps["embedding"]))
            theirs = self.of_teacher(full_precision(teacher.taps["embedding"]))
            if self.knobs.form == "reference":
                return {"cc": neighbours(ours, theirs)}
            gamma, order = self.knobs.gamma, self.knobs.order
            return {"cc": (kernel(ours, gamma, order) - kernel(theirs, gamma, order)).square().mean()}


def neighbours(ours: Tensor, theirs: Tensor) -> Tensor:
    """Mean over neighbours in the batch of the products of their differences; both (N, D). 0 for N = 1."""
    gap = (ours - theirs).abs()
    return (gap[:-1] * gap[1:]).sum() / max(len(gap) - 1, 1)


def kernel(embedding: Tensor, gamma: float, order: int) -> Tensor:
    """Likeness of all pairs (N, N): exp(−γ‖x − y‖²) of the embeddings (N, D) scaled to length 1, its Taylor
    series up to `order`."""
    unit = unit_rows(embedding)
    cosine = unit @ unit.T
    series = torch.ones_like(cosine)
    for p in range(1, order + 1):
        series = series + (2 * gamma * cosine) ** p / math.factorial(p)
    return math.exp(-2 * gamma) * series
