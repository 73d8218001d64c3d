"""Attention transfer: at each stage the student learns where the teacher's activations are strong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from kd_engine.activity import activity, activity_of
from kd_engine.knobs import Knobs, knob
from kd_engine.methods import Terms
from kd_engine.methods._features import Pair, PairMethod, StageKnobs, both_maps, pooled, pooled_to_smaller
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
    family: ClassVar[str] = "attention"
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

    def teacher_taps(self, student: Shapes, teacher: Shapes) -> tuple[str, ...]:
        """The teacher's activity, which can be kept, where its map need not be pooled to the student's
        first."""
        return tuple(
            theirs if _larger(teacher.taps[theirs], student.taps[ours]) else activity_of(theirs, self.knobs.p)
            for ours, theirs in self.choose(student, teacher)
        )

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        knobs = self.knobs
        return {
            f"at_{ours}": distance(student.taps[ours], teacher.taps, theirs, knobs.p, knobs.reduction)
            for ours, theirs in self.pairs
        }


def distance(student: Tensor, teacher: Mapping[str, Tensor], tap: str, p: int, reduction: str) -> Tensor:
    """How far apart in attention a map (N, C, H, W) is from a tap of the teacher's, of which the map or the
    activity is known; C, H, W may differ. A scalar, 0 when equal."""
    known = teacher.get(activity_of(tap, p))
    if known is None:
        ours, theirs = (activity(f, p) for f in pooled_to_smaller(student, teacher[tap]))
    else:
        ours, theirs = activity(pooled(student, (known.shape[1], known.shape[2])), p), known
    difference = (ours - theirs).flatten(1)
    if reduction == "paper":
        length: Tensor = torch.linalg.vector_norm(difference, dim=1)
        return length.mean()
    return difference.square().mean()


def _larger(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether a map (C, H, W) has more rows or columns than another."""
    return one[1] > other[1] or one[2] > other[2]
