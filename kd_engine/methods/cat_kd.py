"""Class attention transfer: for every class the student looks where the teacher looks."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from kd_engine.knobs import Knobs, knob
from kd_engine.methods import MethodKnobs, Terms, full_precision
from kd_engine.methods._features import Pair, PairMethod, both_maps, exact_products, unit_rows
from kd_engine.signals import Classifier, Shapes, Signals


class CatKdKnobs(MethodKnobs):
    weight: float = knob(
        40.0,
        "How much the class maps count in the sum. Published for 2×2 maps of length one: 40 (ResNet50 to "
        "MobileNetV2); for 4×4: 600 and 80 (to ShuffleNets); not normalised: 15 (resnet32x4 to 8x4), 0.7 "
        "(resnet56 to 20), 1.8 (110 to 32), 12 and 1.5 (wrn_40_2 to 16_2 and 40_1).",
        low=0,
        high=1e4,
        scale="log",
        live=True,
        unit="weight",
    )
    resolution: int = knob(
        2,
        "Height and width that class maps are averaged to before they are compared. Published: 2, for "
        "ShuffleNets 4.",
        low=1,
        high=8,
        unit="places",
    )
    normalise: bool = knob(
        True,
        "Scale each class map to length one, so that only where it is active counts. Published: on between "
        "unlike architectures, off between like ones; then the weight is smaller.",
    )


class CatKd(PairMethod):
    """With f the last map (N, D, H, W), W the weights (C, D) of the same model's classifier, and
    A_c = Σ_d W_cd f_d its map of class c (its mean over places, plus the bias, is the logit of c):

    cat-kd = mean over batch, classes and places of (n(p(A_s)) − n(p(A_t)))²

    p averages to resolution × resolution places, n scales each map to length 1 (a map of zeros stays zero) or
    leaves it alone. The student's own classifier is used as it stands and learns with it.

    The reference moves the classifier before the pooling, as a 1×1 convolution without bias. Here models stay
    what they are, and the bias, a constant over places, is left out of the maps. Its code normalises unless
    told otherwise; its settings for like architectures tell it otherwise.
    """

    name: ClassVar[str] = "cat-kd"
    title: ClassVar[str] = "Class attention transfer (CAT-KD)"
    help: ClassVar[str] = (
        "For every class, right or wrong, the student learns which places of the image speak for it in the "
        "teacher's eyes."
    )
    family: ClassVar[str] = "attention"
    source: ClassVar[str] = (
        "Guo, Yan, Li, Lin: Class Attention Transfer Based Knowledge Distillation, CVPR 2023. "
        "arXiv:2304.12777; reading of github.com/GzyAftermath/CAT-KD"
    )
    Knobs: ClassVar[type[Knobs]] = CatKdKnobs
    wants: ClassVar[str] = "last map of two places or more in both models"

    def choose(self, student: Shapes, teacher: Shapes) -> tuple[Pair, ...]:
        return both_maps(student, teacher, "last", least_positions=2)

    def problems(self, student: Shapes, teacher: Shapes) -> list[str]:
        found = super().problems(student, teacher)
        if student.classes != teacher.classes:
            found.append(f"the student has {student.classes} classes, the teacher {teacher.classes}")
        for pair in self.choose(student, teacher):
            for who, shapes, tap in zip(("student", "teacher"), (student, teacher), pair, strict=True):
                found += _unfit(who, shapes, tap)
        return found

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        ((ours, theirs),) = self.pairs
        maps = []
        for said, tap in ((student, ours), (teacher, theirs)):
            assert said.classifier is not None  # `problems` asked for it
            seen = class_maps(said.taps[tap], said.classifier, self.knobs.resolution)
            maps.append(unit_rows(seen) if self.knobs.normalise else seen)
        return {"cat-kd": F.mse_loss(maps[0], maps[1])}


def class_maps(feature_map: Tensor, classifier: Classifier, resolution: int) -> Tensor:
    """Where each class speaks, (N, C, resolution²): a map (N, D, H, W) averaged to resolution × resolution,
    then weighed by the classifier. (Averaging first gives the same and is cheaper.)"""
    places = F.adaptive_avg_pool2d(full_precision(feature_map), resolution).flatten(2)
    with exact_products(places):
        return torch.matmul(full_precision(classifier.weight), places)


def _unfit(who: str, shapes: Shapes, tap: str) -> list[str]:
    """Why a model's classifier cannot be laid over its last map."""
    if not shapes.classifier:
        return [f"the {who} has no last linear layer, whose weights would make the class maps"]
    width = shapes.taps[tap][0]
    wanted = shapes.taps.get("embedding", (width,))[0]
    if width != wanted:
        return [
            f"the {who}'s classifier takes {wanted} features, its {tap} has {width}: it is not the average "
            "of that map which is classified"
        ]
    return []
