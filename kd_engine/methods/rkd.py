"""Relational distillation: distances and angles between the samples of a batch are as the teacher's."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from kd_engine.knobs import Knobs, knob
from kd_engine.methods import MethodKnobs, Terms, full_precision
from kd_engine.methods._features import Pair, PairMethod, both_embeddings
from kd_engine.signals import Shapes, Signals


class RkdKnobs(MethodKnobs):
    weight: float = knob(
        1.0,
        "How much distances and angles together count in the sum. Published: 1.",
        low=0,
        high=100,
        scale="log",
        live=True,
        unit="weight",
    )
    distance: float = knob(
        25.0,
        "How much the distances of pairs count within this loss. Published: 25.",
        label="Distances",
        low=0,
        high=1000,
        scale="log",
        live=True,
        unit="weight",
    )
    angle: float = knob(
        50.0,
        "How much the angles of triples count within this loss. Published: 50.",
        label="Angles",
        low=0,
        high=1000,
        scale="log",
        live=True,
        unit="weight",
    )


class Rkd(PairMethod):
    """distance · mean_ij h(d_ij^s / m_s − d_ij^t / m_t) + angle · mean_ijk h(a_ijk^s − a_ijk^t), with h the
    Huber loss (½x² to |x| = 1, then |x| − ½), d the Euclidean distances between the embeddings (N, D) of a
    batch, m the mean of those that are not zero, and a_ijk the cosine at sample i of the angle to j and k.

    Means are over all N² pairs and N³ triples, those with equal indices included, as in RepDistiller; the
    paper sums over distinct ones. Terms `rkd_distance` and `rkd_angle`, already with their own weights.
    Unchanged when a whole embedding is moved, rotated or multiplied by a number. Where two samples coincide
    their distance is 0, their angles are taken as right ones, and no gradient comes from there; a batch of
    one sample gives 0.
    """

    name: ClassVar[str] = "rkd"
    title: ClassVar[str] = "Relational distillation (RKD)"
    help: ClassVar[str] = (
        "Within a batch, the student's embedding keeps the teacher's proportions: distances of pairs and "
        "angles of triples. Sizes may differ."
    )
    family: ClassVar[str] = "relations"
    source: ClassVar[str] = (
        "Park, Kim, Lu, Cho: Relational Knowledge Distillation, CVPR 2019. arXiv:1904.05068; "
        "reading of github.com/HobbitLong/RepDistiller"
    )
    Knobs: ClassVar[type[Knobs]] = RkdKnobs
    wants: ClassVar[str] = "pooled embeddings in both models"

    def choose(self, student: Shapes, teacher: Shapes) -> tuple[Pair, ...]:
        return both_embeddings(student, teacher)

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        ours, theirs = distances(student.taps["embedding"]), distances(teacher.taps["embedding"])
        return {
            "rkd_distance": self.knobs.distance * F.smooth_l1_loss(ours, theirs),
            "rkd_angle": self.knobs.angle * F.smooth_l1_loss(angles(ours), angles(theirs)),
        }


def distances(embedding: Tensor) -> Tensor:
    """Distances between all samples, (N, N), as multiples of their mean; embedding (N, D).

    Without the usual detour by the matrix product, which loses small distances between long vectors.
    """
    exact = full_precision(embedding)
    between = torch.cdist(exact, exact, compute_mode="donot_use_mm_for_euclid_dist")
    mean = between.sum() / (between > 0).sum().clamp_min(1)
    return between / mean.clamp_min(1e-12)


def angles(between: Tensor) -> Tensor:
    """Cosines at i of the angle from j to k, (N, N, N) as [i, j, k], by the law of cosines from the distances
    (N, N); 0 where j or k coincides with i. It needs N³ numbers where vectors need N²·D and N³·D products."""
    squares = between.square()
    opposite = squares.unsqueeze(2) + squares.unsqueeze(1) - squares
    inverse = (between > 0) / between.masked_fill(between == 0, 1)
    return opposite * inverse.unsqueeze(2) * inverse.unsqueeze(1) / 2
