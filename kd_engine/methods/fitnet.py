"""Hints: in a middle layer the student's features, through a small regressor, match the teacher's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd_engine.errors import did_you_mean
from kd_engine.knobs import Knobs, knob
from kd_engine.methods import Method, MethodKnobs, Terms, full_precision, one_hot, pair_taps
from kd_engine.methods._features import Pair, have, nothing_common
from kd_engine.methods._regressors import BatchNorm, Shape, as_map, regressor
from kd_engine.signals import Shapes, Signals
from kd_engine.tasks import UNLABELLED


class FitNetKnobs(MethodKnobs):
    weight: float = knob(
        100.0,
        "How much the hint counts in the sum. Published: 100.",
        low=0,
        high=1e4,
        scale="log",
        live=True,
        unit="weight",
    )
    hint: str = knob(
        "auto",
        "The student's tap that is compared, such as stage2. auto: the middle stage (of three or four the "
        "second, which is RepDistiller's hint layer 2).",
    )
    fusion: Literal["none", "concat"] = knob(
        "none",
        "none: the hint is the teacher's map. concat: it is made of both maps, by a small part that learns "
        "to tell the classes from them.",
        label="Feature fusion",
        advanced=True,
    )
    fusion_weight: float = knob(
        0.01,
        "How much the fusion's own class loss counts within this method: at 0.01 and a weight of 100, as "
        "much as the labels of a plain training. It moves nothing but the fusion.",
        low=0,
        high=10,
        scale="log",
        live=True,
        advanced=True,
    )


class FitNet(Method):
    """mean (r(f_s) − f_t)² over the batch and all elements of the hint layer; f_s the student's tap, f_t the
    teacher's.

    r is trained with the student: convolution, BatchNorm, ReLU (see `regressor`). Tokens (T, D) get the 1×1
    convolution, without the ReLU because a block's tokens have both signs; their number T must agree.

    The paper trains the lower half of the student on the hint alone before distilling, and its regressor has
    no BatchNorm. RepDistiller adds the hint to the labels' loss throughout, as here.

    With `fusion: concat` the hint is z = ReLU(BN(conv1×1([r(f_s), f_t]))) instead of f_t (tokens: without the
    ReLU), in the shape of f_t. A linear classifier on the pooled z learns the labels, and where a label is
    withheld the teacher's probabilities; that cross-entropy times `fusion_weight` is a second term,
    `fitnet_fusion`. In the spirit of Feature Fusion Learning (Kim, Hyun, Chung, Kwak 2019, arXiv:1904.09058),
    which fuses the last maps of two students by depthwise and pointwise convolutions, compares logits instead
    of maps, and lets the fused classifier's loss into both networks.

    It cannot collapse, because each part has one loss: the hint moves the student and r alone (z is held
    fixed in it), the class loss the fusion alone (r(f_s) is held fixed in it). So the hint cannot make itself
    easier, and the fusion gains nothing by copying r(f_s), which would make the hint zero, unless that tells
    the classes as well as the teacher's map does. Nor can z be constant: its BatchNorm gives each channel a
    deviation, and a constant r(f_s) then costs all of z's variance.
    """

    name: ClassVar[str] = "fitnet"
    title: ClassVar[str] = "Hints (FitNets)"
    help: ClassVar[str] = (
        "The student's features of one middle layer are regressed to the teacher's. Adds a small trained "
        "part, which is dropped at export."
    )
    family: ClassVar[str] = "features"
    source: ClassVar[str] = (
        "Romero et al.: FitNets: Hints for Thin Deep Nets, ICLR 2015. arXiv:1412.6550; "
        "reading of github.com/HobbitLong/RepDistiller"
    )
    Knobs: ClassVar[type[Knobs]] = FitNetKnobs
    hard_targets: ClassVar[Mapping[str, str]] = {"fusion": "concat"}

    def __init__(self, knobs: Any) -> None:
        super().__init__(knobs)
        self.pair: Pair = ("", "")
        self.regressor = nn.Sequential()
        self.fusion = nn.Sequential()
        self.classifier = nn.Sequential()

    def student_taps(self, student: Shapes, teacher: Shapes) -> tuple[str, ...]:
        pair = self._choose(student, teacher)
        return pair[:1] if pair else ()

    def teacher_taps(self, student: Shapes, teacher: Shapes) -> tuple[str, ...]:
        pair = self._choose(student, teacher)
        return pair[1:] if pair else ()

    def problems(self, student: Shapes, teacher: Shapes) -> list[str]:
        hint = self.knobs.hint
        pair = self._choose(student, teacher)
        if pair is None:
            if hint == "auto":
                return [nothing_common("common taps", student, teacher)]
            both = have(student, teacher)
            if hint in student.taps:
                return [f"hint '{hint}' has no partner: {both}"]
            return [f"no tap '{hint}'{did_you_mean(hint, student.taps)}: {both}; 'auto' takes the middle one"]
        ours, theirs = student.taps[pair[0]], teacher.taps[pair[1]]
        what = f"hint {pair[0]} {ours} to {pair[1]} {theirs}"
        if len(ours) != len(theirs) or len(ours) not in (2, 3):
            return [f"{what}: a hint needs two maps (C, H, W), or two token sequences (T, D)"]
        if len(ours) == 2 and ours[0] != theirs[0]:
            return [f"{what}: the numbers of tokens differ"]
        if as_map(theirs)[1:] == (1, 1):
            return [f"{what}: a hint needs more than one position; choose an earlier tap"]
        if self.knobs.fusion == "concat" and student.classes != teacher.classes:
            return [
                f"fusion learns one set of classes: the student has {student.classes}, the teacher "
                f"{teacher.classes}; set fusion to 'none'"
            ]
        return []

    def build(self, student: Shapes, teacher: Shapes) -> None:
        pair = self._choose(student, teacher)
        assert pair is not None  # `problems` was asked first
        self.pair = pair
        ours, theirs = student.taps[pair[0]], teacher.taps[pair[1]]
        self.regressor = regressor(ours, theirs, relu=_is_map(theirs))
        if self.knobs.fusion == "concat":
            channels = as_map(theirs)[0]
            parts = [nn.Conv2d(2 * channels, channels, 1, bias=False), BatchNorm(channels)]
            self.fusion = nn.Sequential(*parts, *([nn.ReLU()] if _is_map(theirs) else []))
            self.classifier = nn.Sequential(nn.Linear(channels, student.classes))

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        ours, theirs = (
            full_precision(s.taps[name]) for s, name in zip((student, teacher), self.pair, strict=True)
        )
        if ours.ndim == 3:  # tokens (N, T, D) as a map (N, D, T, 1)
            ours, theirs = (tokens.transpose(1, 2).unsqueeze(-1) for tokens in (ours, theirs))
        answer = full_precision(self.regressor(ours))
        if self.knobs.fusion == "none":
            return {"fitnet": F.mse_loss(answer, theirs)}
        fused = full_precision(self.fusion(torch.cat([answer.detach(), theirs], dim=1)))
        logits = full_precision(self.classifier(fused.mean((2, 3))))
        classes = class_loss(logits, full_precision(teacher.logits), target)
        return {
            "fitnet": F.mse_loss(answer, fused.detach()),
            "fitnet_fusion": self.knobs.fusion_weight * classes,
        }

    def _choose(self, student: Shapes, teacher: Shapes) -> Pair | None:
        pairs = pair_taps(student, teacher) or pair_taps(student, teacher, "block")
        if self.knobs.hint == "auto":
            return pairs[(len(pairs) - 1) // 2] if pairs else None
        unnumbered = [
            (name, name) for name in student.taps if name in teacher.taps and not name[-1].isdigit()
        ]
        return next((pair for pair in (*pairs, *unnumbered) if pair[0] == self.knobs.hint), None)


def class_loss(logits: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy, nats, of logits (N, C) to the labels (N,), and to the softmax of the teacher's
    logits (N, C) where a label is withheld."""
    known = target != UNLABELLED
    right = one_hot(target.where(known, 0), logits.shape[-1]).to(logits.dtype)
    return F.cross_entropy(logits, torch.where(known.unsqueeze(-1), right, teacher.softmax(-1)))


def _is_map(shape: Shape) -> bool:
    return len(shape) == 3
