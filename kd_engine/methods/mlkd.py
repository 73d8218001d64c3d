"""Multi-level logit distillation: at several temperatures, each sample's soft targets, and how classes and
samples go together in the batch."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from kd_engine.knobs import Knobs, knob
from kd_engine.methods import Terms, full_precision
from kd_engine.methods._features import exact_products
from kd_engine.methods._logits import LogitMethod, ScaleKnobs, soft_targets
from kd_engine.signals import Shapes, Signals


class MlkdKnobs(ScaleKnobs):
    weight: float = knob(
        0.9,
        "How much all levels together count in the sum. Published: 0.9 beside 0.1 for the labels, or 9 with "
        "standardised logits.",
        low=0,
        high=100,
        scale="log",
        live=True,
        unit="weight",
    )
    coolest: int = knob(
        2, "The lowest temperature; all whole ones from it to the highest are taken.", low=1, high=20
    )
    hottest: int = knob(6, "The highest temperature. Published: from 2 to 6.", low=1, high=20)


class Mlkd(LogitMethod):
    """Three terms, each the sum over T = 2, 3, 4, 5, 6, with P = softmax(z / T), (N, C):

    `mlkd_instance`: T² · mean over samples of KL(P_t ‖ P_s), as in `kd`.
    `mlkd_class`: ‖P_tᵀP_t − P_sᵀP_s‖² / C, Frobenius: which classes are confused with which.
    `mlkd_batch`: ‖P_tP_tᵀ − P_sP_sᵀ‖² / N: which samples of the batch look alike.

    All are 0 when student equals teacher and unchanged by a constant added to a row. `mlkd_class` grows with
    the square of the batch size N, as published.

    This is the paper's definition on the one view of each image that a step has. Its numbers come from code
    that does other things (github.com/Jin-Ying/Multi-Level-Logit-Distillation): the masks that should leave
    out the half of the samples and classes of which the teacher is surest multiply means already taken, and
    so only halve the three terms; a second, strongly augmented view adds soft targets at T = 3, 4, 5, while
    those meant for T = 2 and 6 use the weak view again, and the strong view's relations between classes and
    samples are computed and not used. In sum each soft target weighs about 1.5 there where it weighs 1 here,
    and the relations 0.5. `standardise` acts on the soft targets only, as in the published combination of
    the two.
    """

    name: ClassVar[str] = "mlkd"
    title: ClassVar[str] = "Multi-level logits (MLKD)"
    help: ClassVar[str] = (
        "Soft targets at five temperatures at once, and with them which classes, and which samples of a "
        "batch, the teacher holds for similar."
    )
    caution: ClassVar[str] = (
        "With few classes the relations between classes are huge at the published weights, which were made "
        "for 100 of them: with ten, a learning rate of 0.05 ended at chance (docs/study.md). Take a smaller "
        "rate or weight."
    )
    family: ClassVar[str] = "logits"
    source: ClassVar[str] = (
        "Jin, Wang, Lin: Multi-Level Logit Distillation, CVPR 2023; with standardised logits: "
        "arXiv:2403.01427"
    )
    Knobs: ClassVar[type[Knobs]] = MlkdKnobs

    def problems(self, student: Shapes, teacher: Shapes) -> list[str]:
        coolest, hottest = self.knobs.coolest, self.knobs.hottest
        if coolest <= hottest:
            return []
        return [f"no temperature from coolest = {coolest} to hottest = {hottest}: exchange the two"]

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        heats = range(self.knobs.coolest, self.knobs.hottest + 1)
        ours, theirs = self.logits(student, teacher)
        instance = torch.stack([soft_targets(ours, theirs, float(heat)) for heat in heats]).sum()
        plain = [full_precision(signals.logits).flatten(0, -2) for signals in (student, teacher)]
        p, q = (torch.stack([(logits / heat).softmax(-1) for heat in heats]) for logits in plain)  # (T, N, C)
        return {
            "mlkd_instance": instance,
            "mlkd_class": (gram(p.mT) - gram(q.mT)).square().sum() / p.shape[2],
            "mlkd_batch": (gram(p) - gram(q)).square().sum() / p.shape[1],
        }


def gram(rows: Tensor) -> Tensor:
    """Products of all pairs of rows, (..., R, K) to (..., R, R)."""
    with exact_products(rows):
        return rows @ rows.mT
