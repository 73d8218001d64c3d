"""Neuron selectivity: the student's channels respond to the same places of an image as the teacher's."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from kd_engine.knobs import Knobs, knob
from kd_engine.methods import Terms
from kd_engine.methods._features import (
    Pair,
    PairMethod,
    StageKnobs,
    both_maps,
    exact_products,
    pooled_to_smaller,
    unit_rows,
)
from kd_engine.signals import Shapes, Signals


class NstKnobs(StageKnobs):
    weight: float = knob(
        50.0,
        "How much the selectivity counts in the sum. Published: 50.",
        low=0,
        high=1e4,
        scale="log",
        live=True,
        unit="weight",
    )
    kernel: Literal["polynomial", "linear", "gaussian"] = knob(
        "polynomial",
        "How two channels are compared: the square of the cosine of their maps, as in the published tables; "
        "the cosine itself; or a Gaussian of their distance, as wide as their mean distance.",
        advanced=True,
    )


NARROWEST = 1e-4  # width of the Gaussian: of equal channels only rounding would be left to compare


class Nst(PairMethod):
    """Per stage the squared maximum mean discrepancy between the channels of both maps (N, C, H, W), each
    channel flattened and scaled to length 1:

    mean over samples of [mean k(a, a') + mean k(b, b') − 2 mean k(a, b)], a, a' the teacher's channels, b, b'
    the student's; k(a, b) = (a·b)², or a·b, or exp(−‖a − b‖² / 2σ²), σ² the mean of ‖a − b‖² between teacher
    and student in this batch

    The larger map is average-pooled to the smaller one. Stages are those of attention transfer: neither stem
    nor embedding, paired from the last, none with a single place. One term each, `nst_stage1` ...; the
    method's loss is their sum. Zero when the maps are equal up to the order and the scale of channels; a
    channel that is zero everywhere counts as a zero vector.

    The paper's λ stands halved before its loss, and it has one layer; RepDistiller has all stages.
    """

    name: ClassVar[str] = "nst"
    title: ClassVar[str] = "Neuron selectivity (NST)"
    help: ClassVar[str] = (
        "At each stage, the student's channels respond to the same places as the teacher's, as a crowd, not "
        "one by one. Channel counts may differ."
    )
    family: ClassVar[str] = "features"
    source: ClassVar[str] = (
        "Huang, Wang: Like What You Like: Knowledge Distill via Neuron Selectivity Transfer, 2017. "
        "arXiv:1707.01219; reading of github.com/HobbitLong/RepDistiller"
    )
    caution: ClassVar[str] = (
        "Between unlike architectures the literature saw it fall below the plain student "
        "(CIFAR-100, vgg13 to MobileNetV2: 58.2 % against 64.6 %)."
    )
    Knobs: ClassVar[type[Knobs]] = NstKnobs

    def choose(self, student: Shapes, teacher: Shapes) -> tuple[Pair, ...]:
        return both_maps(student, teacher, self.knobs.stages, least_positions=2)

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        with exact_products(student.logits):
            return {
                f"nst_{ours}": discrepancy(student.taps[ours], teacher.taps[theirs], self.knobs.kernel)
                for ours, theirs in self.pairs
            }


def discrepancy(student: Tensor, teacher: Tensor, kernel: str) -> Tensor:
    """How unlike the crowds of channels of two maps (N, C, H, W) are; C, H, W may differ. A scalar."""
    ours, theirs = (unit_rows(f.flatten(2)) for f in pooled_to_smaller(student, teacher))
    if kernel == "linear":
        return (ours.mean(1) - theirs.mean(1)).square().sum(1).mean()
    if kernel == "gaussian":
        return _gaussian(ours, theirs)
    places = ours.shape[2]
    if places <= max(ours.shape[1], theirs.shape[1]):  # the same number by the smaller of the two products
        return (_moments(ours) - _moments(theirs)).square().sum((1, 2)).mean()
    return _squares(theirs, theirs) + _squares(ours, ours) - 2 * _squares(ours, theirs)


def _squares(a: Tensor, b: Tensor) -> Tensor:
    """Mean of (a·b)² over samples and all pairs of channels; a, b (N, C, HW)."""
    return (a @ b.mT).square().mean()


def _moments(a: Tensor) -> Tensor:
    """Mean over channels of a aᵀ, (N, HW, HW): (a·b)² is the inner product of a aᵀ and b bᵀ."""
    return (a.mT @ a) / a.shape[1]


def _gaussian(ours: Tensor, theirs: Tensor) -> Tensor:
    between = _square_distances(ours, theirs)
    width = 2 * between.detach().mean().clamp_min(NARROWEST)
    same = (torch.exp(-_square_distances(f, f) / width).mean() for f in (ours, theirs))
    return sum(same, -2 * torch.exp(-between / width).mean())


def _square_distances(a: Tensor, b: Tensor) -> Tensor:
    lengths = a.square().sum(2).unsqueeze(2) + b.square().sum(2).unsqueeze(1)
    return (lengths - 2 * (a @ b.mT)).clamp_min(0)
