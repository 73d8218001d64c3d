"""Flow of the solution procedure: how features of one stage turn into the next, as a start for a student."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar, Literal

from torch import Tensor

from kd_engine.knobs import Knobs, knob
from kd_engine.methods import MethodKnobs, Terms
from kd_engine.methods._features import (
    Pair,
    PairMethod,
    both_maps,
    exact_products,
    pooled_to_smaller,
    unlike_channels,
)
from kd_engine.signals import Shapes, Signals


class FspKnobs(MethodKnobs):
    weight: float = knob(
        50.0,
        "How much the flow counts in the sum. Published: 50, in a stage of its own before the labels.",
        low=0,
        high=1e4,
        scale="log",
        live=True,
        unit="weight",
    )
    reduction: Literal["reference", "paper"] = knob(
        "reference",
        "reference: mean over a flow matrix's elements, as in the published tables. paper: their sum; its "
        "numbers are larger, so it wants a smaller weight.",
        advanced=True,
    )


class Fsp(PairMethod):
    """For each two neighbours a (N, A, H, W), b (N, B, H, W) of stem, stage1 ... stageK, in both models:
    G = mean over places of a ⊗ b, (N, A, B); the loss is the mean of (G_s − G_t)² over the batch and all
    elements. `reduction: paper` takes the mean over the batch of the sum over elements, as the paper does.

    Of two neighbours the larger is average-pooled to the smaller, as in RepDistiller; the paper has max
    pooling. Student and teacher need equal channel counts at every tap; heights and widths may differ. One
    term for each pair, called after the later one: `fsp_stage1` ...

    It is meant to prepare a student: RepDistiller and the paper train on it alone first, and then on the
    labels alone (or with another method). As a recipe's stages:

    "stages": [{"stage": "distill", "epochs": 30, "label_weight": 0,
                "methods": [{"method": "fsp", "weight": 50}]},
               {"stage": "distill", "epochs": 240, "label_weight": 1, "methods": []}]
    """

    name: ClassVar[str] = "fsp"
    title: ClassVar[str] = "Flow between layers (FSP)"
    help: ClassVar[str] = (
        "How features of one stage go with those of the next is as in the teacher. For a first stage, before "
        "the labels; needs equal channel counts."
    )
    family: ClassVar[str] = "relations"
    source: ClassVar[str] = (
        "Yim, Joo, Bae, Kim: A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and "
        "Transfer Learning, CVPR 2017; reading of github.com/HobbitLong/RepDistiller"
    )
    caution: ClassVar[str] = (
        "As a first stage before the labels, the literature saw it end below the plain student between wide "
        "ResNets and with vgg (CIFAR-100, WRN-40-2 to WRN-16-2: 72.9 % against 73.3 %)."
    )
    first_stage: ClassVar[Mapping[str, Any] | None] = {}
    accompanies: ClassVar[bool] = False
    Knobs: ClassVar[type[Knobs]] = FspKnobs
    wants: ClassVar[str] = "two or more common map taps (stem, stage1, stage2, ...)"

    def choose(self, student: Shapes, teacher: Shapes) -> tuple[Pair, ...]:
        stems = (shapes.taps.get("stem", ()) for shapes in (student, teacher))
        first: tuple[Pair, ...] = (("stem", "stem"),) if all(len(stem) == 3 for stem in stems) else ()
        pairs = (*first, *both_maps(student, teacher))
        return pairs if len(pairs) > 1 else ()

    def problems(self, student: Shapes, teacher: Shapes) -> list[str]:
        return super().problems(student, teacher) or unlike_channels(
            self.choose(student, teacher), student, teacher
        )

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        with exact_products(student.logits):
            return {
                f"fsp_{our_next}": self._distance(
                    flow(student.taps[ours], student.taps[our_next]),
                    flow(teacher.taps[theirs], teacher.taps[their_next]),
                )
                for (ours, theirs), (our_next, their_next) in pairwise(self.pairs)
            }

    def _distance(self, ours: Tensor, theirs: Tensor) -> Tensor:
        squares = (ours - theirs).square()
        return squares.sum((1, 2)).mean() if self.knobs.reduction == "paper" else squares.mean()


def flow(earlier: Tensor, later: Tensor) -> Tensor:
    """Mean over places of the products of all channels of two maps (N, C, H, W): (N, C of the earlier, C of
    the later)."""
    a, b = (f.flatten(2) for f in pooled_to_smaller(earlier, later))
    return a @ b.mT / a.shape[2]
