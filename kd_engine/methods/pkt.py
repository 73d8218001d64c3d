"""Probabilistic transfer: each sample's neighbours are as probable as in the teacher's embedding."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from kd_engine.knobs import Knobs, knob
from kd_engine.methods import MethodKnobs, Terms, full_precision
from kd_engine.methods._features import Pair, PairMethod, both_embeddings, exact_products, unit_rows
from kd_engine.signals import Shapes, Signals

EPSILON = 1e-7  # in the logarithm, as in the authors' code


class PktKnobs(MethodKnobs):
    weight: float = knob(
        30000.0,
        "How much the neighbours' chances count in the sum. Published: 30000. The loss itself is tiny: a "
        "divergence divided by the number of samples twice.",
        low=0,
        high=1e6,
        scale="log",
        live=True,
        unit="weight",
    )
    with_itself: bool = knob(
        True,
        "Whether each sample counts as its own nearest neighbour: yes in the authors' code, no in the paper.",
        label="Count itself",
        advanced=True,
    )


class Pkt(PairMethod):
    """Mean over i and j of p_t(j|i) · log((p_t(j|i) + ε) / (p_s(j|i) + ε)); p(j|i) = K_ij / Σ_k K_ik with
    K_ij = (cos(e_i, e_j) + 1) / 2, e (N, D) the embeddings, ε = 1e-7.

    The authors' code and RepDistiller count j = i and k = i; the paper leaves them out (`with_itself:
    false`). Both codes divide the divergence by N², not N. Unchanged when an embedding is multiplied by a
    positive number; a zero embedding is at right angles to all others. 0 for a batch of one sample.
    """

    name: ClassVar[str] = "pkt"
    title: ClassVar[str] = "Probabilistic transfer (PKT)"
    help: ClassVar[str] = (
        "Within a batch, each sample's neighbours in the student's embedding are as probable as in the "
        "teacher's. Sizes may differ."
    )
    family: ClassVar[str] = "relations"
    source: ClassVar[str] = (
        "Passalis, Tefas: Learning Deep Representations with Probabilistic Knowledge Transfer, ECCV 2018. "
        "arXiv:1803.10837; github.com/passalis/probabilistic_kt, as in github.com/HobbitLong/RepDistiller"
    )
    Knobs: ClassVar[type[Knobs]] = PktKnobs
    wants: ClassVar[str] = "pooled embeddings in both models"

    def choose(self, student: Shapes, teacher: Shapes) -> tuple[Pair, ...]:
        return both_embeddings(student, teacher)

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        itself = self.knobs.with_itself
        with exact_products(student.logits):
            ours = neighbours(student.taps["embedding"], itself)
            theirs = neighbours(teacher.taps["embedding"], itself)
        return {"pkt": (theirs * ((theirs + EPSILON) / (ours + EPSILON)).log()).mean()}


def neighbours(embedding: Tensor, with_itself: bool) -> Tensor:
    """p(j|i): how probable sample j is as a neighbour of i, (N, N), rows sum to 1; embedding (N, D)."""
    unit = unit_rows(full_precision(embedding))
    kernel = (unit @ unit.T + 1) / 2
    if not with_itself:
        kernel = kernel.masked_fill(torch.eye(len(kernel), dtype=torch.bool, device=kernel.device), 0)
    return kernel / kernel.sum(1, keepdim=True).clamp_min(
        EPSILON
    )  # a row is 0 where there is no other sample
