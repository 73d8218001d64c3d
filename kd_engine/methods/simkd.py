"""Reuse the teacher's classifier: the student's last map, projected, becomes the teacher's, and the teacher's
last layer does the rest.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from kd_engine import graft
from kd_engine.knobs import Knobs, knob
from kd_engine.methods import MethodKnobs, Terms, full_precision
from kd_engine.methods._features import Pair, PairMethod, both_maps, pooled
from kd_engine.methods._regressors import BatchNorm
from kd_engine.signals import Shapes, Signals
from kd_engine.taps import PROJECTED


class SimKdKnobs(MethodKnobs):
    weight: float = knob(
        1.0,
        "How much the distance of the maps counts in the sum. Published: 1, with a label weight of 0 and no "
        "other method.",
        low=0,
        high=1000,
        scale="log",
        live=True,
        unit="weight",
    )
    factor: int = knob(
        2,
        "How many times narrower than the teacher's map the projector is inside. Published: 2; higher makes "
        "the student smaller.",
        low=1,
        high=64,
        scale="log",
    )


class SimKd(PairMethod):
    """mean over batch, channels and places of (P(f_s) − f_t)², f the last maps; P, the projector, is trained:
    convolutions 1×1, 3×3, 1×1, each with BatchNorm and ReLU, 1/factor as wide inside. The larger of the two
    maps is average-pooled to the smaller, the student's before P.

    In a run the network that learns, that is measured and exported, is the student's body, P, the pooling and
    the teacher's classifier, which learns no more (kd_engine.graft). So the method reads P(f_s) there, and
    its logits, and those of other methods and of the label loss, are the teacher's classifier's. Used alone
    it has a projector of its own.

    The teacher's classifier must be given the mean of its last map. What the student has between its last map
    and its classifier is skipped, as in the reference. P ends in a ReLU, as there, so a teacher's map with
    values below zero is reached in part. The reference pools by height and takes maps for squares; here each
    side is taken by itself.
    """

    name: ClassVar[str] = "simkd"
    title: ClassVar[str] = "Reused teacher classifier (SimKD)"
    help: ClassVar[str] = (
        "The student gets the teacher's last layer and learns, through a projector, to feed it. Projector "
        "and layer stay: the student is larger than without."
    )
    family: ClassVar[str] = "features"
    source: ClassVar[str] = (
        "Chen et al.: Knowledge Distillation with the Reused Teacher Classifier, CVPR 2022. "
        "arXiv:2203.14001; reading of github.com/DefangChen/SimKD"
    )
    Knobs: ClassVar[type[Knobs]] = SimKdKnobs
    wants: ClassVar[str] = "last map in both models"
    grafts: ClassVar[bool] = True

    def __init__(self, knobs: Any) -> None:
        super().__init__(knobs)
        self.projector: nn.Module = nn.Identity()  # where the student has it already

    def choose(self, student: Shapes, teacher: Shapes) -> tuple[Pair, ...]:
        pairs = both_maps(student, teacher, "last")
        return tuple((PROJECTED, theirs) for _, theirs in pairs) if PROJECTED in student.taps else pairs

    def problems(self, student: Shapes, teacher: Shapes) -> list[str]:
        found = super().problems(student, teacher)
        if not teacher.classifier:
            return [*found, "it needs the teacher's last linear layer, and this teacher has none"]
        if student.classes != teacher.classes:
            found.append(f"the student has {student.classes} classes, the teacher {teacher.classes}")
        return found

    def build(self, student: Shapes, teacher: Shapes) -> None:
        super().build(student, teacher)
        ((ours, theirs),) = self.pairs
        if ours != PROJECTED:
            mine, other = student.taps[ours], teacher.taps[theirs]
            size = graft.common_size(mine, other)
            self.projector = graft.projector(mine[0], other[0], size, self.knobs.factor, BatchNorm)

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        ((ours, theirs),) = self.pairs
        projected = full_precision(self.projector(full_precision(student.taps[ours])))
        height, width = projected.shape[2:]
        return {"simkd": F.mse_loss(projected, pooled(teacher.taps[theirs], (height, width)))}
