"""Variational information: the student's maps should tell as much as they can of the teacher's."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd_engine.knobs import Knobs, knob
from kd_engine.methods import Terms, full_precision
from kd_engine.methods._features import PairMethod, StageKnobs, pooled_to_smaller
from kd_engine.signals import Shapes, Signals

FIRST_VARIANCE = 5.0
SMALLEST = 1e-5  # is added to every variance


class VidKnobs(StageKnobs):
    weight: float = knob(
        1.0,
        "How much it counts in the sum. Published: 1. The loss may fall below zero: it is the negative log "
        "of a density.",
        low=0,
        high=100,
        scale="log",
        live=True,
        unit="weight",
    )
    reduction: Literal["reference", "paper"] = knob(
        "reference",
        "reference: the mean over all elements of a map, as in the published tables. paper: their sum; its "
        "numbers are thousands of times larger, so it wants a smaller weight.",
        advanced=True,
    )


class Vid(PairMethod):
    """Per stage, −log of the density of the teacher's map f_t under a normal distribution whose mean is
    predicted from the student's map f_s, and whose variance is learned for each channel c:

    mean ½ · [ (μ(f_s) − f_t)² / σ_c² + log σ_c² ],   σ_c² = log(1 + exp α_c) + 1e-5

    over samples, channels and positions; a constant is left out. It bounds from below what f_s and f_t know
    of each other. Maps (N, C, H, W); a larger one is first average-pooled to the smaller one. μ is three 1×1
    convolutions without bias, with ReLU between, all as wide as the teacher; α starts where σ² = 5. The last
    stages are paired. One term for each of the student's stages, `vid_stage1` ...; the method's loss is their
    sum. No value means "equal": with residual variance v it is lowest at σ² = v, where it is ½(1 + log v).

    The paper sums over channels and positions where RepDistiller takes the mean (knob `reduction`).
    mdistiller keeps α in a plain list, so that there it is neither trained nor saved; here, as in
    RepDistiller, it is a parameter. There is no feature fusion here: a target that is partly the student's
    own would make the bound say nothing of the teacher.
    """

    name: ClassVar[str] = "vid"
    title: ClassVar[str] = "Variational information (VID)"
    help: ClassVar[str] = (
        "The student's maps predict the teacher's, stage by stage; how exactly is learned for each channel, "
        "so that what the student cannot know costs little. Adds a trained part, which is dropped at export."
    )
    family: ClassVar[str] = "features"
    source: ClassVar[str] = (
        "Ahn, Hu, Damianou, Lawrence, Dai: Variational Information Distillation for Knowledge Transfer, CVPR "
        "2019. arXiv:1904.05835; reading of github.com/HobbitLong/RepDistiller"
    )
    caution: ClassVar[str] = (
        "Between unlike architectures it may be no better than the plain student (CIFAR-100, ResNet50 to "
        "vgg8: 70.3 % against 70.4 %)."
    )
    Knobs: ClassVar[type[Knobs]] = VidKnobs

    def __init__(self, knobs: Any) -> None:
        super().__init__(knobs)
        self.means = nn.ModuleDict()
        self.scales = nn.ParameterDict()

    def build(self, student: Shapes, teacher: Shapes) -> None:
        super().build(student, teacher)
        start = math.log(math.expm1(FIRST_VARIANCE - SMALLEST))
        for ours, theirs in self.pairs:
            channels = teacher.taps[theirs][0]
            self.means[ours] = predictor(student.taps[ours][0], channels)
            self.scales[ours] = nn.Parameter(torch.full((channels,), start))

    def variance(self, tap: str) -> Tensor:
        """σ² of each of the teacher's channels, (C,), at the stage of the student's `tap`."""
        return F.softplus(self.scales[tap]) + SMALLEST

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        terms = {}
        for ours, theirs in self.pairs:
            f_s, f_t = pooled_to_smaller(student.taps[ours], teacher.taps[theirs])
            mean = full_precision(self.means[ours](f_s))
            terms[f"vid_{ours}"] = surprise(mean, f_t, self.variance(ours), self.knobs.reduction)
        return terms


def surprise(mean: Tensor, value: Tensor, variance: Tensor, reduction: str) -> Tensor:
    """−log of a normal density, without its constant, nats; mean, value: (N, C, H, W), variance: (C,). The
    mean over all elements ("reference"), or over samples alone ("paper")."""
    wide = variance.view(1, -1, 1, 1)
    each = 0.5 * ((mean - value).square() / wide + wide.log())
    return each.flatten(1).sum(1).mean() if reduction == "paper" else each.mean()


def predictor(channels: int, out: int) -> nn.Sequential:
    """Three 1×1 convolutions without bias, ReLU between."""
    first, second, third = (nn.Conv2d(width, out, 1, bias=False) for width in (channels, out, out))
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)
