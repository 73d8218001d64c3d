"""Similarity-preserving: samples that look alike to the teacher should look alike to the student."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from kd_engine.knobs import Knobs, knob
from kd_engine.methods import Terms, full_precision
from kd_engine.methods._features import (
    Pair,
    PairMethod,
    StageKnobs,
    Stages,
    both_features,
    exact_products,
    unit_rows,
)
from kd_engine.signals import Shapes, Signals


class SpKnobs(StageKnobs):
    weight: float = knob(
        3000.0,
        "How much the likenesses count in the sum. Published: 3000. The loss itself is tiny: a mean over "
        "pairs of samples of differences between rows of length one.",
        low=0,
        high=1e5,
        scale="log",
        live=True,
        unit="weight",
    )
    stages: Stages = knob(
        "last", "Which features are compared: the last, as in the published tables, or those of all stages."
    )


class Sp(PairMethod):
    """‖rows(F_t F_tᵀ) − rows(F_s F_sᵀ)‖²_F / N²; F (N, ·) a batch of flattened features, `rows` scales each
    row to length 1.

    Features are the last stage's map, or the last block's tokens of a transformer, before pooling; shapes may
    differ, even a map's from tokens. One term for each tap of the student's, `sp_stage3`; the paper adds up
    several layers (`stages: all`), RepDistiller takes the last. Unchanged when all features are multiplied by
    a number. 0 for a batch of one sample; a sample whose features are all zero counts as like nothing.
    """

    name: ClassVar[str] = "sp"
    title: ClassVar[str] = "Similarity-preserving (SP)"
    help: ClassVar[str] = (
        "Within a batch, the student finds the same samples alike as the teacher does. Works between any two "
        "models."
    )
    family: ClassVar[str] = "relations"
    source: ClassVar[str] = (
        "Tung, Mori: Similarity-Preserving Knowledge Distillation, ICCV 2019. arXiv:1907.09682; "
        "reading of github.com/HobbitLong/RepDistiller"
    )
    Knobs: ClassVar[type[Knobs]] = SpKnobs
    wants: ClassVar[str] = "features before pooling (stage1, ... or block1, ...)"

    def choose(self, student: Shapes, teacher: Shapes) -> tuple[Pair, ...]:
        return both_features(student, teacher, self.knobs.stages)

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        with exact_products(student.logits):
            return {
                f"sp_{ours}": distance(student.taps[ours], teacher.taps[theirs])
                for ours, theirs in self.pairs
            }


def distance(student: Tensor, teacher: Tensor) -> Tensor:
    """How unlike the likenesses among N samples are in two features (N, ...). A scalar, 0 when equal."""
    return (similarity(student) - similarity(teacher)).square().mean()


def similarity(features: Tensor) -> Tensor:
    """How like each sample is to each other, (N, N), each row of length 1; features (N, ...)."""
    flat = full_precision(features).flatten(1)
    return unit_rows(flat @ flat.T)
