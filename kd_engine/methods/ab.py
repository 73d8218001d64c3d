"""Activation boundaries: the student's neurons should be on where the teacher's are, and off elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd_engine.knobs import Knobs, knob
from kd_engine.methods import Terms, full_precision
from kd_engine.methods._features import Pair, PairMethod, StageKnobs, both_maps
from kd_engine.methods._regressors import regressor
from kd_engine.signals import Shapes, Signals

SCALE = 3 / 1000  # of the authors' code


class AbKnobs(StageKnobs):
    weight: float = knob(
        1.0,
        "How much it counts in the sum. Published: 1 in a first stage of its own, and 0 after it.",
        low=0,
        high=100,
        scale="log",
        live=True,
        unit="weight",
    )
    margin: float = knob(
        1.0,
        "How far beyond the boundary a neuron must be before it costs nothing.",
        low=0.01,
        high=10,
        scale="log",
        live=True,
        advanced=True,
    )


class Ab(PairMethod):
    """Per stage l of L, over the values just before the stage's last activation (taps `preact1` ...):

    2^(l−L+1) · 3/1000 · mean over samples of Σ over elements of max(0, m − sign(t) · r(s))²,   l from 0

    with margin m, sign(t) = 1 where the teacher's neuron is on (t > 0) and −1 elsewhere: only on which side
    of the boundary t is counts, not how far. Maps (N, C, H, W). r is nothing for shapes that agree; otherwise
    convolution and BatchNorm (1×1 for equal sizes; a larger student map gets stride 2, a smaller one a
    transposed convolution, as in RepDistiller). Trained with the student. The last stages are paired. One
    term for each of the student's stages, `ab_preact1` ...; the method's loss is their sum. 0 where every
    neuron is on the right side by the margin, and unchanged by a positive scale of t.

    It is meant to start a student, not to accompany it: a first stage with this loss alone (RepDistiller: 30
    epochs), then one without it:

      {"stage": "distill", "epochs": 30, "label_weight": 0.0, "methods": [{"method": "ab", "weight": 1.0}]},
      {"stage": "distill", "epochs": 240, "label_weight": 1.0, "methods": []}

    RepDistiller keeps the student's BatchNorm in eval mode during that first stage; here it learns. The
    authors train with soft targets alone in the second stage ("methods": [{"method": "kd", ...}]), and keep
    the teacher in train mode, which lets it drift: not here.
    """

    name: ClassVar[str] = "ab"
    title: ClassVar[str] = "Activation boundaries (AB)"
    help: ClassVar[str] = (
        "The student learns which neurons the teacher has on and off, stage by stage. For a first stage of a "
        "few epochs without labels, before plain training or 'kd'."
    )
    family: ClassVar[str] = "features"
    source: ClassVar[str] = (
        "Heo, Lee, Yun, Choi: Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden "
        "Neurons, AAAI 2019. arXiv:1811.03233; reading of github.com/HobbitLong/RepDistiller"
    )
    caution: ClassVar[str] = (
        "The literature saw it fall below the plain student (CIFAR-100, WRN-40-2 to WRN-16-2: 72.5 % against "
        "73.3 %)."
    )
    first_stage: ClassVar[Mapping[str, Any] | None] = {}
    accompanies: ClassVar[bool] = False
    Knobs: ClassVar[type[Knobs]] = AbKnobs
    wants: ClassVar[str] = "common taps before the last activation of a stage (preact1, preact2, ...)"

    def __init__(self, knobs: Any) -> None:
        super().__init__(knobs)
        self.connectors = nn.ModuleDict()

    def choose(self, student: Shapes, teacher: Shapes) -> tuple[Pair, ...]:
        return both_maps(student, teacher, self.knobs.stages, series="preact")

    def build(self, student: Shapes, teacher: Shapes) -> None:
        super().build(student, teacher)
        for ours, theirs in self.pairs:
            shapes = student.taps[ours], teacher.taps[theirs]
            same = shapes[0] == shapes[1]
            self.connectors[ours] = nn.Identity() if same else regressor(*shapes, relu=False)

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        terms = {}
        for deeper, (ours, theirs) in enumerate(reversed(self.pairs)):
            answer = full_precision(self.connectors[ours](full_precision(student.taps[ours])))
            loss = crossing(answer, teacher.taps[theirs], self.knobs.margin)
            terms[f"ab_{ours}"] = loss * (SCALE / 2**deeper)
        return dict(reversed(terms.items()))


def crossing(student: Tensor, teacher: Tensor, margin: float) -> Tensor:
    """How far the student's values (N, C, H, W) are from `margin` beyond 0 on the teacher's side: squares,
    summed over a sample's elements, the mean over samples."""
    side = torch.where(teacher > 0, 1.0, -1.0)
    return F.relu(margin - side * student).square().flatten(1).sum(1).mean()
