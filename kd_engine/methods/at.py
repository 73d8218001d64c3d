"""Attention transfer: at each stage the student learns where the teacher's activations are strong."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kd_engine.knobs import Knobs, knob
from kd_engine.methods import Terms
from kd_engine.methods._features import Pair, PairMethod, StageKnobs, both_maps, pooled_to_smaller
from kd_engine.signals import Shapes, Signals


class AtKnobs(StageKnobs):
    weight: float = knob(
        1000.0,
        "How much the attention maps count in the sum. Published: 1000. The loss itself is tiny: a mean "
        "over positions of differences between maps of length one.",
        low=0,
        high=1e5,
        scale="log",
        live=True,
        unit="weight",
    )
    p: int = knob(
        2,
        "The power of the activations: higher gives the strongest channel at a place more say.",
        label="Power",
        low=1,
        high=4,
        advanced=True,
    )
    reduction: Literal["reference", "paper"] = knob(
        "reference",
        "reference: mean squared difference of the maps, as in the published tables. paper: length of the "
        "difference, as in the paper's formula; its numbers are larger, so it wants a smaller weight.",
        advanced=True,
    )


class At(PairMethod):
    """Per stage, with A = mean over channels of |f|^p, f a map (N, C, H, W), and Q = A flattened and scaled
    to length 1:

    reference: mean over samples and positions of (Q_s − Q_t)²
    paper:     mean over samples of ‖Q_s − Q_t‖₂

    A larger map is first average-pooled to the smaller one. The stem and the pooled embedding take no part,
    as in RepDistiller (`feats[1:-1]`); with unequal numbers of stages the last are paired. One term for each
    of the student's stages, `at_stage1` ...; the method's loss is their sum. A stage with one position is
    left out: scaled to length 1 it says nothing. Unchanged when a map is multiplied by a positive number.

    The paper's equation 2 takes the sum over channels where RepDistiller takes the mean: the same after the
    scaling. It takes the length of the difference where RepDistiller (and the authors' own code) take the
    mean square, and puts β/2 before it: set half its β as the weight.
    """

    name: ClassVar[str] = "at"
    title: ClassVar[str] = "Attention transfer (AT)"
    help: ClassVar[str] = (
        "The student imitates where the teacher's feature maps are active, stage by stage. Channel counts "
        "may differ."
    )
    source: ClassVar[str] = (
        "Zagoruyko, Komodakis: Paying More Attention to Attention, ICLR 2017. arXiv:1612.03928; "
        "reading of github.com/HobbitLong/RepDistiller"
    )
    caution: ClassVar[str] = (
        "Between unlike architectures the literature saw it fall below the plain student "
        "(CIFAR-100, vgg13 to MobileNetV2: 59.4 % against 64.6 %)."
    )
    Knobs: ClassVar[type[Knobs]] = AtKnobs

    def choose(self, student: Shapes, teacher: Shapes) -> tuple[Pair, ...]:
        return both_maps(student, teacher, self.knobs.stages, least_positions=2)

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        knobs = self.knobs
        return {
            f"at_{ours}": distance(student.taps[ours], teacher.taps[theirs], knobs.p, knobs.reduction)
            for ours, theirs in self.pairs
        }


def distance(student: Tensor, teacher: Tensor, p: int, reduction: str) -> Tensor:
    """How far apart in attention two maps (N, C, H, W) are; C, H, W may differ. A scalar, 0 when equal."""
    ours, theirs = pooled_to_smaller(student, teacher)
    difference = attention(ours, p) - attention(theirs, p)
    if reduction == "paper":
        length: Tensor = torch.linalg.vector_norm(difference, dim=1)
        return length.mean()
    return difference.square().mean()


def attention(feature_map: Tensor, p: int) -> Tensor:
    """Where a map (N, C, H, W) is active: mean over channels of |f|^p, (N, H·W), each row of length 1."""
    energy: Tensor = _Energy.apply(feature_map, p)  # type: ignore[no-untyped-call]
    unit: Tensor = F.normalize(energy.flatten(1), dim=1)
    return unit


class _Energy(torch.autograd.Function):
    """Mean over channels of |f|^p. Its own gradient, because autograd's walks the full map several times, and
    in the wrong order for channels_last maps: measured 4 to 9 times slower."""

    @staticmethod
    def forward(ctx: Any, f: Tensor, p: int) -> Tensor:
        ctx.save_for_backward(f)
        ctx.p = p
        return (f * f if p == 2 else f.abs().pow(p)).mean(1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (f,), p = ctx.saved_tensors, ctx.p
        slope = f if p == 2 else f.sign() * f.abs().pow(p - 1)
        return slope * (grads[0] * (p / f.shape[1])).unsqueeze(1), None
