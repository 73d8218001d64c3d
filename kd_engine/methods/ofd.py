"""Feature overhaul: before the activation, the student matches what is positive and stays low elsewhere."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kd_engine.knobs import Knobs, knob
from kd_engine.methods import Terms, full_precision
from kd_engine.methods._features import Pair, PairMethod, StageKnobs, both_maps, pooled_to_smaller
from kd_engine.methods._regressors import connector
from kd_engine.signals import Shapes, Signals


class OfdKnobs(StageKnobs):
    weight: float = knob(
        1e-3,
        "How much it counts in the sum. Published: 0.001 on small images, 0.0001 on ImageNet. The loss is "
        "large: a sum over all elements of a map.",
        low=0,
        high=1,
        scale="log",
        live=True,
        unit="weight",
    )


class Ofd(PairMethod):
    """Per stage l of L, over the values just before the stage's last activation (taps `preact1` ...):

    2^(l−L+1) · mean over samples of Σ over elements of d(r(s), max(t, m_c)),   l from 0
    d(s, t) = 0 where s ≤ t ≤ 0, else (s − t)²

    so that positive values are matched, and negative ones need only be negative enough: a student below the
    target costs nothing there. m_c < 0 is the margin of the teacher's channel c: the mean of its negative
    values. r is a 1×1 convolution and BatchNorm, trained with the student. Maps (N, C, H, W); a larger one is
    first average-pooled to the smaller one (mdistiller resizes the teacher's alone). The last stages are
    paired. One term for each of the student's stages, `ofd_preact1` ...; the method's loss is their sum.

    The paper defines m_c = E[t | t < 0], and its code computes it from the scale and shift of the teacher's
    last BatchNorm in the stage, as if t were normal. A method here never sees a model, so m_c is measured:
    the mean over all negative values heard so far in training (a running mean, kept with the method's parts);
    for normal values the two agree. Where a shortcut is added after that BatchNorm, as in ResNets, the
    measured one is what the paper defines, and the code's is not. A channel that was never negative has
    margin 0, which then plays no part; the code takes −3 deviations. The reference code keeps the teacher in
    train mode, on purpose: its BatchNorm then follows the batches and drifts. Not here: a teacher is always
    in eval mode.
    """

    name: ClassVar[str] = "ofd"
    title: ClassVar[str] = "Feature overhaul (OFD)"
    help: ClassVar[str] = (
        "The student's maps before the activation match the teacher's positive values, and stay below a "
        "margin where the teacher is negative. Adds a small trained part, which is dropped at export."
    )
    family: ClassVar[str] = "features"
    source: ClassVar[str] = (
        "Heo, Kim, Yun, Park, Kwak, Choi: A Comprehensive Overhaul of Feature Distillation, ICCV 2019. "
        "arXiv:1904.01866; reading of github.com/clovaai/overhaul-distillation and "
        "github.com/megvii-research/mdistiller"
    )
    Knobs: ClassVar[type[Knobs]] = OfdKnobs
    wants: ClassVar[str] = "common taps before the last activation of a stage (preact1, preact2, ...)"

    def __init__(self, knobs: Any) -> None:
        super().__init__(knobs)
        self.connectors = nn.ModuleDict()
        self.margins = nn.ModuleDict()

    def choose(self, student: Shapes, teacher: Shapes) -> tuple[Pair, ...]:
        return both_maps(student, teacher, self.knobs.stages, series="preact")

    def build(self, student: Shapes, teacher: Shapes) -> None:
        super().build(student, teacher)
        for ours, theirs in self.pairs:
            channels = teacher.taps[theirs][0]
            self.connectors[ours] = connector(student.taps[ours][0], channels)
            self.margins[ours] = Margin(channels)

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        terms = {}
        for deeper, (ours, theirs) in enumerate(reversed(self.pairs)):
            margin = self.margins[ours](teacher.taps[theirs])
            s, t = pooled_to_smaller(student.taps[ours], teacher.taps[theirs])
            answer = full_precision(self.connectors[ours](s))
            terms[f"ofd_{ours}"] = partial_distance(answer, torch.maximum(t, margin)) / 2**deeper
        return dict(reversed(terms.items()))


class Margin(nn.Module):
    """The mean of the negative values of each channel, over all that was heard in training mode; 0 for a
    channel that was never negative."""

    mean: Tensor
    count: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("count", torch.zeros(channels, dtype=torch.int64))

    def forward(self, teacher: Tensor) -> Tensor:
        """The margins, (1, C, 1, 1), for a teacher's map (N, C, H, W), which is first taken in."""
        if self.training:
            self._hear(full_precision(teacher))
        return self.mean.view(1, -1, 1, 1)

    @torch.no_grad()
    def _hear(self, teacher: Tensor) -> None:
        new = (teacher < 0).sum((0, 2, 3))
        mean = teacher.clamp(max=0).sum((0, 2, 3)) / new.clamp(min=1)
        self.count += new
        self.mean += (mean - self.mean) * (new.to(mean.dtype) / self.count.clamp(min=1))


def partial_distance(student: Tensor, target: Tensor) -> Tensor:
    """Squares of the difference where the target is positive or the student above it, summed over a sample's
    elements, the mean over samples; maps (N, C, H, W)."""
    counts = (student > target) | (target > 0)
    return ((student - target).square() * counts).flatten(1).sum(1).mean()
