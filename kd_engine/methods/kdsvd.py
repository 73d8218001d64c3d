"""Singular vectors: each map in its strongest directions, and how those change from stage to stage."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor

from kd_engine.knobs import Knobs, knob
from kd_engine.methods import MethodKnobs, Terms, full_precision
from kd_engine.methods._features import (
    Pair,
    PairMethod,
    both_maps,
    exact_products,
    positions,
    unit_rows,
    unlike_channels,
)
from kd_engine.signals import Shapes, Signals

MORE = 3  # so many more of the student's vectors are candidates
CLOSE = 1e-3  # eigenvalues that differ by less, of a sum of 1, count as equal in the gradient
NOTHING = 1e-6  # a direction with less of a map's energy is rounding


class KdsvdKnobs(MethodKnobs):
    weight: float = knob(
        1.0,
        "How much the singular vectors count in the sum. RepDistiller has neither weight nor table for it. "
        "The loss is small beside the labels' (0.03 at first, on digits), so more is worth a try.",
        low=0,
        high=1000,
        scale="log",
        live=True,
        unit="weight",
    )
    k: int = knob(
        1,
        "How many of the teacher's singular vectors are learnt, the strongest first.",
        label="Vectors",
        low=1,
        high=8,
        advanced=True,
    )


class Kdsvd(PairMethod):
    """Per stage, with F (HW, C) a sample's map and F = U S Vᵀ: the k strongest right singular vectors times
    the singular values, D = V_k diag(s_k / ‖s_k‖), (C, k). For neighbouring stages (l, m) a Gaussian
    relation R_abj = exp(−(D^m_aj − D^l_bj)² / 8) for all channels a, b; the loss is the mean over samples of
    Σ (R_s − R_t)². One term for each two neighbours, called after the later one: `kdsvd_stage2` ...

    As in RepDistiller: each of the teacher's vectors is met by the one of the student's k + 3 that is most
    parallel to it, with its sign; the student's vectors are multiplied by the teacher's values. Channel
    counts must be equal at every stage, heights and widths need not.

    A singular vector's gradient has 1 / (λ_i − λ_j) in it, infinite where two singular values are equal; the
    authors' code sets the infinite ones to 0 and lets the nearly infinite be. Here it is d / (d² + 10⁻⁶),
    with d = λ_i − λ_j, λ = s² / Σ s²: the same for values apart, at most 500, and 0 for equal ones. The sign
    of the teacher's vectors, which no decomposition determines, is fixed so that the sum of each is positive;
    the loss depends on it. A map that is zero everywhere has zero vectors and no gradient.
    """

    name: ClassVar[str] = "kdsvd"
    title: ClassVar[str] = "Singular vectors (KD-SVD)"
    help: ClassVar[str] = (
        "Each feature map is reduced to its strongest mixture of channels; how that changes from stage to "
        "stage is as in the teacher. Needs equal channel counts."
    )
    family: ClassVar[str] = "relations"
    source: ClassVar[str] = (
        "Lee, Kim, Song: Self-supervised Knowledge Distillation Using Singular Value Decomposition, ECCV "
        "2018. arXiv:1807.06819; reading of github.com/HobbitLong/RepDistiller"
    )
    Knobs: ClassVar[type[Knobs]] = KdsvdKnobs
    wants: ClassVar[str] = "two or more common map taps (stage1, stage2, ...)"

    def choose(self, student: Shapes, teacher: Shapes) -> tuple[Pair, ...]:
        pairs = both_maps(student, teacher)
        return pairs if len(pairs) > 1 else ()

    def problems(self, student: Shapes, teacher: Shapes) -> list[str]:
        pairs, k = self.choose(student, teacher), self.knobs.k
        few = [
            f"k = {k}: the {who}'s {pair[side]} {shape} has only {rank} singular vectors"
            for side, (who, shapes) in enumerate((("student", student), ("teacher", teacher)))
            for pair in pairs
            if (rank := min((shape := shapes.taps[pair[side]])[0], positions(shape))) < k
        ]
        return super().problems(student, teacher) or unlike_channels(pairs, student, teacher) + few

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        with exact_products(student.logits):
            stages = [
                (ours, *directions(student.taps[ours], teacher.taps[theirs], self.knobs.k))
                for ours, theirs in self.pairs
            ]
        return {
            f"kdsvd_{name}": (relation(ours, our_last) - relation(theirs, their_last)).square().sum()
            / len(ours)
            for (_, our_last, their_last), (name, ours, theirs) in pairwise(stages)
        }


def directions(student: Tensor, teacher: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The student's and the teacher's D, (N, C, k): see `Kdsvd`. Maps (N, C, H, W) with equal C."""
    theirs, energy = right_vectors(teacher, k)
    theirs = theirs * _sign(theirs.sum(1, keepdim=True))
    candidates, _ = right_vectors(student, k + MORE)
    cosine = candidates.mT @ theirs
    best = cosine.abs().argmax(1, keepdim=True)  # (N, 1, k): no gradient leads through the choice
    ours = candidates.gather(2, best.expand(-1, candidates.shape[1], -1)) * _sign(cosine.gather(1, best))
    values = unit_rows(energy.sqrt()).unsqueeze(1)
    return ours * values, theirs * values


def right_vectors(feature_map: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` strongest right singular vectors (N, C, count) of maps (N, C, H, W) as matrices (HW, C),
    and their shares of the energy, λ = s² / Σ s², (N, count). Fewer where the map has fewer; a direction
    without energy is a zero vector. Signs are as they come."""
    flat = full_precision(feature_map).flatten(2)  # (N, C, HW): transposed
    flat = unit_rows(flat.flatten(1)).view_as(flat)
    wide = flat.shape[1] > flat.shape[2]  # then the eigenvectors of the smaller product, turned into these
    gram = flat.mT @ flat if wide else flat @ flat.mT
    vectors, energy = _TopVectors.apply(gram, count)  # type: ignore[no-untyped-call]
    if wide:
        vectors = unit_rows((flat @ vectors).mT).mT
    there = energy > NOTHING
    return vectors * there.unsqueeze(1), energy * there


def relation(later: Tensor, earlier: Tensor) -> Tensor:
    """The Gaussian relation of two stages' D (N, C, k) for all channels: (N, C of later, C of earlier, k)."""
    return torch.exp((later.unsqueeze(2) - earlier.unsqueeze(1)).square() / -8)


def _sign(numbers: Tensor) -> Tensor:
    return torch.where(numbers < 0, -1.0, 1.0).to(numbers.dtype)


class _TopVectors(torch.autograd.Function):
    """The `count` strongest eigenvectors (N, M, count) of symmetric matrices (N, M, M), with a gradient that
    stays bounded where eigenvalues meet; and their eigenvalues (N, count), without one."""

    @staticmethod
    def forward(ctx: Any, gram: Tensor, count: int) -> tuple[Tensor, Tensor]:
        values, vectors = torch.linalg.eigh(gram)  # ascending
        values, vectors = values.flip(-1).clamp_min(0), vectors.flip(-1)
        ctx.save_for_backward(values, vectors)
        top = values[:, :count]
        ctx.mark_non_differentiable(top)
        return vectors[:, :, :count], top

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        values, vectors = ctx.saved_tensors
        slope, count = grads[0], grads[0].shape[2]
        apart = values[:, None, :count] - values[:, :, None]  # (N, M, count): λ_j − λ_i
        inverse = apart / (apart.square() + CLOSE**2)
        change = vectors @ (inverse * (vectors.mT @ slope)) @ vectors[:, :, :count].mT
        return (change + change.mT) / 2, None
