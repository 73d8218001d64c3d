"""Be your own teacher: small heads on the student's earlier stages learn from its last layer, and the stages
with them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd_engine.knobs import Knobs, knob
from kd_engine.methods import Method, MethodKnobs, Terms, full_precision
from kd_engine.methods._features import both_maps, names
from kd_engine.methods._logits import soft_targets
from kd_engine.methods._regressors import BatchNorm
from kd_engine.signals import Shapes, Signals
from kd_engine.tasks import UNLABELLED


class ByotKnobs(MethodKnobs):
    weight: float = knob(
        1.0,
        "How much the heads' losses together count in the sum. Published: 1, beside 0.9 for the labels.",
        low=0,
        high=10,
        scale="log",
        live=True,
        unit="weight",
    )
    soft_share: float = knob(
        0.1,
        "Share of the deepest layer's soft targets in what a head learns, the rest being the labels (the "
        "paper's α).",
        low=0,
        high=1,
        live=True,
    )
    hint_weight: float = knob(
        1.28e-4,
        "How much the heads' features count that are to equal the deepest ones (the paper's λ).",
        low=0,
        high=1,
        scale="log",
        live=True,
        advanced=True,
    )
    temperature: float = knob(
        3.0,
        "Softens the deepest layer's probabilities and the heads'.",
        low=1,
        high=20,
        scale="log",
        live=True,
    )


class Byot(Method):
    """A head at each of the student's stages but the last; with z_h its logits (N, C) and f_h its features
    (N, D), z and f the student's own last ones, detached, α = `soft_share` and sums over the heads:

    `byot_label`: (1 − α) · cross-entropy of z_h with the label, the mean over the labelled samples.
    `byot_soft`: α · T² · mean over samples of KL(softmax(z / T) ‖ softmax(z_h / T)).
    `byot_hint`: `hint_weight` · mean over samples of the sum over D of (f_h − f)², where one of the two is
    above 0.

    A head is a bottleneck (1×1 convolution to D / 4 channels, one whose kernel and stride bring the map to
    the size of the last stage's, 1×1 to D, each with BatchNorm and ReLU), average pooling, and a linear
    layer. It is trained with the student, and dropped at export. f is the tap `embedding`.

    Reading of the public reimplementation: its cross-entropy with soft targets has the gradient of the KL,
    and its hint is summed over a batch of 128 with weight 1e-6, which is 1.28e-4 times the mean over samples.
    The paper's hint has no such condition. What a teacher says is not looked at.
    """

    name: ClassVar[str] = "byot"
    title: ClassVar[str] = "Be your own teacher (BYOT)"
    help: ClassVar[str] = (
        "Needs no teacher: the student's earlier stages, through small heads of their own, learn what its "
        "last layer says. Convolutional networks only."
    )
    family: ClassVar[str] = "self-distillation"
    source: ClassVar[str] = (
        "Zhang, Song, Gao, Chen, Bao, Ma: Be Your Own Teacher, ICCV 2019. arXiv:1905.08094; reading of "
        "github.com/luanyunteng/pytorch-be-your-own-teacher"
    )
    Knobs: ClassVar[type[Knobs]] = ByotKnobs
    hard_targets: ClassVar[bool] = True
    needs_teacher: ClassVar[bool] = False

    def __init__(self, knobs: Any) -> None:
        super().__init__(knobs)
        self.heads = nn.ModuleDict()

    def student_taps(self, student: Shapes, teacher: Shapes) -> tuple[str, ...]:
        return (*_earlier(student), "embedding")

    def problems(self, student: Shapes, teacher: Shapes) -> list[str]:
        if _earlier(student) and len(student.taps.get("embedding", ())) == 1:
            return []
        return [
            "it needs a student with two stages that are maps (stage1, stage2, ...) and an embedding: this "
            f"one has {names(student)}"
        ]

    def build(self, student: Shapes, teacher: Shapes) -> None:
        last = student.taps[_stages(student)[-1]]
        (width,) = student.taps["embedding"]
        self.heads = nn.ModuleDict(
            {
                stage: nn.ModuleList(
                    [bottleneck(student.taps[stage], last, width), nn.Linear(width, student.classes)]
                )
                for stage in _earlier(student)
            }
        )

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        knobs, label = self.knobs, target.flatten()
        logits, features = self._answers(student)
        deepest = full_precision(student.logits).detach()
        embedding = full_precision(student.taps["embedding"]).detach()
        known = (label != UNLABELLED).sum().clamp(min=1)
        right = sum_over(
            F.cross_entropy(head, label, ignore_index=UNLABELLED, reduction="sum") for head in logits
        )
        soft = sum_over(soft_targets(head, deepest, knobs.temperature) for head in logits)
        hint = sum_over(partial_distance(head, embedding) for head in features)
        return {
            "byot_label": (1 - knobs.soft_share) * right / known,
            "byot_soft": knobs.soft_share * soft,
            "byot_hint": knobs.hint_weight * hint,
        }

    def _answers(self, student: Signals) -> tuple[list[Tensor], list[Tensor]]:
        """What each head says: logits (N, C), and features (N, D)."""
        logits, features = [], []
        for stage, head in self.heads.items():
            assert isinstance(head, nn.ModuleList)
            body, linear = head
            pooled = body(full_precision(student.taps[stage])).mean((2, 3))
            logits.append(full_precision(linear(pooled)))
            features.append(full_precision(pooled))
        return logits, features


def bottleneck(stage: tuple[int, ...], last: tuple[int, ...], width: int) -> nn.Sequential:
    """From a stage's map (C, H, W) to one of `width` channels and about the size of the last stage's."""
    middle = max(1, width // 4)
    kernel = (max(1, stage[1] // last[1]), max(1, stage[2] // last[2]))
    convolutions = (
        nn.Conv2d(stage[0], middle, 1, bias=False),  # BatchNorm follows: a bias would be taken out again
        nn.Conv2d(middle, middle, kernel, stride=kernel, bias=False),
        nn.Conv2d(middle, width, 1, bias=False),
    )
    layers: list[nn.Module] = []
    for conv in convolutions:
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        layers += [conv, BatchNorm(conv.out_channels), nn.ReLU()]
    return nn.Sequential(*layers)


def partial_distance(features: Tensor, goal: Tensor) -> Tensor:
    """Mean over samples of the squared difference of (N, D), summed over where one of the two is above 0."""
    matters = (features > 0) | (goal > 0)
    return ((features - goal).square() * matters).sum(-1).mean()


def sum_over(losses: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(losses)).sum()


def _stages(student: Shapes) -> list[str]:
    """The student's stages that are maps, first stage first."""
    return [stage for stage, _ in both_maps(student, student)]


def _earlier(student: Shapes) -> tuple[str, ...]:
    return tuple(_stages(student)[:-1])
