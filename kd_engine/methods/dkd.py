"""Decoupled distillation: how sure the teacher is of the right class, and how it ranks the others, are two
losses with weights of their own."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from kd_engine.knobs import Knobs, knob
from kd_engine.methods import Terms
from kd_engine.methods._logits import Heat, LogitKnobs, LogitMethod, soft_targets
from kd_engine.signals import Shapes, Signals
from kd_engine.tasks import UNLABELLED


class DkdKnobs(LogitKnobs):
    weight: float = knob(
        1.0,
        "How much both losses together count in the sum. Published: 1, beside 1 for the labels.",
        low=0,
        high=10,
        scale="log",
        live=True,
        unit="weight",
    )
    target_weight: float = knob(
        1.0,
        "How much the target class counts: the right one against all others (the paper's α).",
        low=0,
        high=20,
        scale="log",
        live=True,
    )
    nontarget_weight: float = knob(
        8.0,
        "How much the ranking among the other classes counts (the paper's β). Published: 8, or 6 from vgg13 "
        "or wrn_40_2, and 2 for resnet20 and resnet32.",
        low=0,
        high=20,
        scale="log",
        live=True,
    )
    weight_schedule: Literal["constant", "linear", "cosine", "warm-up", "confidence"] = knob(
        "warm-up",
        "How the weight moves: linear or cosine from itself to a share of it over the stage; warm-up from "
        "that share to itself over the first epochs, as published; confidence: times the teacher's mean top "
        "probability in the batch.",
        advanced=True,
    )


class Dkd(LogitMethod):
    """T² · mean over samples of α · KL(b_t ‖ b_s) + β · KL(p̂_t ‖ p̂_s), for logits z (..., C) and target
    class y:

    b = (p_y, 1 − p_y), p = softmax(z / T): the target class against all others; the term `dkd_target`.
    p̂ = softmax of z / T without its entry y, over C − 1 classes; the term `dkd_nontarget`.

    α and β are in the terms. The usual soft targets are these two, with α = 1 and, for each sample,
    β = 1 − p_t,y. Zero when student equals teacher, unchanged by a constant added to a row.

    Where a label is withheld, the class that the teacher thinks most likely takes the place of y; the paper
    has labels throughout. mdistiller leaves y out of p̂ by subtracting 1000 from its logit, which comes to
    the same in float32 unless that logit stands above the others by some 900 T; here it is left out
    altogether. The warm-up of the weight over 20 of 240 epochs is mdistiller's; the weight of the labels is 1
    there.
    """

    name: ClassVar[str] = "dkd"
    title: ClassVar[str] = "Decoupled KD (DKD)"
    help: ClassVar[str] = (
        "Soft targets in two parts: how sure the teacher is of the right class, and, with a weight of its "
        "own, how it ranks the others. Needs three classes."
    )
    family: ClassVar[str] = "logits"
    source: ClassVar[str] = (
        "Zhao, Cui, Song, Qiu, Liang: Decoupled Knowledge Distillation, CVPR 2022. arXiv:2203.08679; "
        "reading of github.com/megvii-research/mdistiller"
    )
    Knobs: ClassVar[type[Knobs]] = DkdKnobs
    hard_targets: ClassVar[bool] = True

    def problems(self, student: Shapes, teacher: Shapes) -> list[str]:
        if student.classes >= 3:
            return []
        return [
            f"it needs three classes, the data have {student.classes}: beside the target class there is "
            "nothing left to rank; use 'kd'"
        ]

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        ours, theirs = self.logits(student, teacher)
        heat = self.heat(teacher.logits.flatten(0, -2))
        known = target.flatten()
        label = torch.where(known == UNLABELLED, theirs.argmax(-1), known)
        parts = [split(logits, label, heat) for logits in (ours, theirs)]
        (our_choice, our_others), (their_choice, their_others) = parts
        return {
            "dkd_target": self.knobs.target_weight * soft_targets(our_choice, their_choice, heat),
            "dkd_nontarget": self.knobs.nontarget_weight * soft_targets(our_others, their_others, heat),
        }


def split(logits: Tensor, label: Tensor, heat: Heat) -> tuple[Tensor, Tensor]:
    """Logits (N, C) as those of two questions: (N, 2), the class `label` (N,) or another, at temperature
    `heat`; and (N, C − 1), which of the others."""
    own = label.unsqueeze(-1)
    order = torch.arange(logits.shape[-1] - 1, device=logits.device)
    others = logits.gather(-1, order + (order >= own))  # a boolean mask would make a GPU wait
    together = heat * (others / heat).logsumexp(-1, keepdim=True)  # so that / heat gives log Σ exp(z / heat)
    return torch.cat((logits.gather(-1, own), together), -1), others
