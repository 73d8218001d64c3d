"""Softmax regression: the teacher's own classifier judges the student's features."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from kd_engine.knobs import Knobs, knob
from kd_engine.methods import MethodKnobs, Terms, full_precision
from kd_engine.methods._features import Pair, PairMethod, both_embeddings, both_maps
from kd_engine.methods._regressors import BatchNorm
from kd_engine.signals import Shapes, Signals


class SrrlKnobs(MethodKnobs):
    weight: float = knob(
        1.0,
        "How much both terms count in the sum. Published: 1.",
        low=0,
        high=100,
        scale="log",
        live=True,
        unit="weight",
    )
    place: Literal["map", "embedding"] = knob(
        "map",
        "What is translated: the student's last map, and averaged afterwards (the authors), or its embedding "
        "(SimKD's reading, which transformers allow too).",
        advanced=True,
    )


class Srrl(PairMethod):
    """With h_t the teacher's embedding (its last map averaged over places), W_t its classifier, and
    h_s = mean over places of r(f_s), f_s the student's last map (N, C, H, W):

    srrl_feature = mean (h_s − h_t)²             over batch and dimensions
    srrl_softmax = mean (W_t h_s − z_t)²         over batch and classes, z_t the teacher's logits

    r is trained with the student: 1×1 convolution, BatchNorm, ReLU. W_t, with its bias, stays as it is, and
    hands the gradient on. Place "embedding": r works on the pooled embeddings instead, without the ReLU where
    the teacher's last features are tokens, which have both signs.

    Means, not sums, as in the authors' own code, for which the published weight holds. SimKD's reading takes
    the embedding first and translates it then; with a ReLU in between that is not the same.
    """

    name: ClassVar[str] = "srrl"
    title: ClassVar[str] = "Softmax regression (SRRL)"
    help: ClassVar[str] = (
        "The student's features, translated by a small trained part, must equal the teacher's and give the "
        "same logits in the teacher's own last layer. The part is dropped at export."
    )
    family: ClassVar[str] = "features"
    source: ClassVar[str] = (
        "Yang, Martinez, Bulat, Tzimiropoulos: Knowledge Distillation via Softmax Regression Representation "
        "Learning, ICLR 2021; reading of github.com/jingyang2017/KD_SRRL"
    )
    Knobs: ClassVar[type[Knobs]] = SrrlKnobs
    wants: ClassVar[str] = "last map, or with place 'embedding' no embedding, in both models"

    def __init__(self, knobs: Any) -> None:
        super().__init__(knobs)
        self.connector = nn.Sequential()

    def choose(self, student: Shapes, teacher: Shapes) -> tuple[Pair, ...]:
        if self.knobs.place == "embedding":
            return both_embeddings(student, teacher)
        return both_maps(student, teacher, "last")

    def problems(self, student: Shapes, teacher: Shapes) -> list[str]:
        found = super().problems(student, teacher)
        if not teacher.classifier:
            return [*found, "it needs the teacher's last linear layer, and this teacher has none"]
        for _, theirs in self.choose(student, teacher):
            width = teacher.taps[theirs][0]
            wanted = teacher.taps.get("embedding", (width,))[0]
            if width != wanted:
                found.append(
                    f"the teacher's classifier takes {wanted} features, its {theirs} has {width}: more lies "
                    "between them than an average; try place 'embedding'"
                )
        return found

    def build(self, student: Shapes, teacher: Shapes) -> None:
        super().build(student, teacher)
        ((ours, theirs),) = self.pairs
        width = teacher.taps[theirs][0]
        conv = nn.Conv2d(student.taps[ours][0], width, 1, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        positive = bool(both_maps(teacher, teacher, "last"))
        self.connector = nn.Sequential(conv, BatchNorm(width), *([nn.ReLU()] if positive else []))

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        ((ours, theirs),) = self.pairs
        last = teacher.classifier
        assert last is not None  # `problems` asked for it
        translated = _pooled(full_precision(self.connector(_as_map(full_precision(student.taps[ours])))))
        wanted = _pooled(_as_map(full_precision(teacher.taps[theirs])))
        bias = None if last.bias is None else full_precision(last.bias)
        judged = full_precision(F.linear(translated, full_precision(last.weight), bias))
        return {
            "srrl_feature": F.mse_loss(translated, wanted),
            "srrl_softmax": F.mse_loss(judged, full_precision(teacher.logits)),
        }


def _as_map(feature: Tensor) -> Tensor:
    """A map (N, C, H, W), or an embedding (N, D) as one place of it."""
    return feature if feature.ndim == 4 else feature[:, :, None, None]


def _pooled(feature_map: Tensor) -> Tensor:
    return feature_map.mean((2, 3))
