"""Curriculum temperature: soft targets whose temperature is learned against the student, so that the task
grows harder as it learns."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from kd_engine.knobs import Knobs, knob
from kd_engine.methods import Terms, full_precision
from kd_engine.methods._logits import LogitMethod, ScaleKnobs, soft_targets
from kd_engine.schedules import Clock, between
from kd_engine.signals import Shapes, Signals

HIDDEN = 64  # width of what predicts a temperature for each sample


class CtkdKnobs(ScaleKnobs):
    weight: float = knob(
        0.9,
        "How much the soft targets count in the sum. Published: 0.9 beside 0.1 for the labels.",
        low=0,
        high=10,
        scale="log",
        live=True,
        unit="weight",
    )
    scope: Literal["global", "instance"] = knob(
        "global",
        "global: one temperature for all samples. instance: one for each, from what both models say of it.",
    )
    lowest: float = knob(
        1.0, "The lowest temperature that can be learned.", label="Lowest temperature", low=1, high=20
    )
    span: float = knob(
        20.0,
        "How far the temperature can be above the lowest. Published: 20, where learning starts at 15.6.",
        label="Temperature span",
        low=0,
        high=40,
        advanced=True,
    )
    reversal_epochs: float = knob(
        10.0,
        "Over how many epochs the temperature's own learning sets in, along half a cosine wave.",
        low=0,
        high=1000,
        unit="epochs",
        advanced=True,
    )


class Ctkd(LogitMethod):
    """Soft targets as in `kd`, T² · mean KL(softmax(z_t / T) ‖ softmax(z_s / T)), at T = t0 + t1 ·
    sigmoid(θ).

    θ is a parameter of the method, at first 1, learned with the student by the same optimizer, but its
    gradient is multiplied by λ, which goes from 0 to −1 along half a cosine wave over the first 10 epochs: θ
    climbs the loss that the student descends. T² takes part in θ's gradient, as in the reference.

    scope "instance": θ is predicted for each sample from both models' probabilities (N, 2C) by two linear
    layers with a ReLU between; the student's enter detached, so that it cannot lower its loss by way of the
    temperature. The reference code has the global one only; the width of 64 is ours. λ follows the clock
    within epochs, where the reference moves it from epoch to epoch. A method outside a run is past its 10
    epochs.
    """

    name: ClassVar[str] = "ctkd"
    title: ClassVar[str] = "Curriculum temperature (CTKD)"
    help: ClassVar[str] = (
        "Soft targets with a temperature that is learned too: it moves to where imitating the teacher is "
        "hardest. Adds one trained number, or a small trained part, dropped at export."
    )
    family: ClassVar[str] = "logits"
    source: ClassVar[str] = (
        "Li, Li, Yang, Zhao, Song, Luo, Li, Yang: Curriculum Temperature for Knowledge Distillation, AAAI "
        "2023. arXiv:2211.16231; reading of github.com/zhengli97/CTKD"
    )
    Knobs: ClassVar[type[Knobs]] = CtkdKnobs

    def __init__(self, knobs: Any) -> None:
        super().__init__(knobs)
        self.predictor: nn.Module = nn.Identity()

    def build(self, student: Shapes, teacher: Shapes) -> None:
        self.predictor = OneHeat() if self.knobs.scope == "global" else HeatForEach(student.classes)

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        ours, theirs = self.logits(student, teacher)
        theta = reversed_gradient(self.predictor(ours.detach(), theirs), self.reversal())
        heat = self.knobs.lowest + self.knobs.span * theta.sigmoid()
        return {"ctkd": soft_targets(ours, theirs, heat)}

    def reversal(self) -> float:
        """λ at this moment, 0 to −1."""
        epochs = self.knobs.reversal_epochs
        share = min(1.0, self.clock.epoch / epochs) if epochs else 1.0
        return between("cosine", Clock(self.clock.epoch, share), 0.0, -1.0, warmup=0.0)


class OneHeat(nn.Module):
    """θ (1, 1), the same for all samples."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.ones(1, 1))

    def forward(self, ours: Tensor, theirs: Tensor) -> Tensor:
        return self.theta


class HeatForEach(nn.Module):
    """θ (N, 1) from two models' logits (N, C), at first near 1."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(2 * classes, HIDDEN)
        self.theta = nn.Linear(HIDDEN, 1)
        nn.init.ones_(self.theta.bias)

    def forward(self, ours: Tensor, theirs: Tensor) -> Tensor:
        said = torch.cat((ours.softmax(-1), theirs.softmax(-1)), -1).to(self.hidden.weight.dtype)
        theta: Tensor = self.theta(self.hidden(said).relu())
        return full_precision(theta)


def reversed_gradient(x: Tensor, factor: float) -> Tensor:
    """`x` itself, whose gradient is multiplied by `factor`; below 0 it is reversed."""
    return x.detach() + factor * (x - x.detach())
