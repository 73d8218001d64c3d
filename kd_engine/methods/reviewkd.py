"""Knowledge review: each of the teacher's stages also teaches the student's deeper ones, through a fusion."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd_engine.knobs import Knobs, knob
from kd_engine.methods import MethodKnobs, Terms, full_precision
from kd_engine.methods._features import Pair, PairMethod, both_embeddings, both_maps, have, pooled
from kd_engine.methods._regressors import BatchNorm
from kd_engine.signals import Shapes, Signals

WIDEST = 512  # channels of the fused features, at most


class ReviewKdKnobs(MethodKnobs):
    weight: float = knob(
        5.0,
        "How much it counts in the sum. Published: 5 for resnet32x4 to resnet8x4 and for most pairs, 0.6 for "
        "resnet56 to resnet20, 1 for resnet110 to resnet32, 8 for resnet32x4 to ShuffleNetV2; on ImageNet 1, "
        "or 8 for ResNet50 to MobileNet.",
        low=0,
        high=100,
        scale="log",
        live=True,
        unit="weight",
    )
    weight_schedule: Literal["constant", "linear", "cosine", "warm-up", "confidence"] = knob(
        "warm-up",
        "How the weight moves: linear or cosine from itself to a share of it over the stage; warm-up from "
        "that share to itself over the first epochs, as published; confidence: times the teacher's mean top "
        "probability in the batch.",
        advanced=True,
    )
    embedding: bool = knob(
        True, "Whether the pooled embedding is the deepest level, as published.", advanced=True
    )
    teacher_maps: Literal["before", "after"] = knob(
        "before",
        "The teacher's maps before the last activation of a stage, as published, or after it, for teachers "
        "without such taps.",
        label="Teacher's maps",
        advanced=True,
    )


class ReviewKd(PairMethod):
    """Per level, from the deepest to the first: HCL(z_l, t_l), with z_l the student's maps of this level and
    of all deeper ones, fused.

    Fusion (ABF): x = BN(conv1×1(f_s)); with the deeper level's fused y, resized to x by nearest neighbours,
    and a = sigmoid(conv1×1([x, y])), two maps: x·a_1 + y·a_2. That, resized to the teacher's size, goes on to
    the next level as y, and z = BN(conv3×3(it)) has the teacher's channels. The deepest level has no y. As
    many channels between as the student's deepest level has, at most 512. All of it learns with the student.
    HCL(z, t) = Σ_k w_k · mean (pool_k(z) − pool_k(t))² / Σ w_k over the maps as they are (w = 1) and their
    average pools to 4, 2 and 1 positions a side, where smaller than the map (w = ½, ¼, ⅛ in order).

    f_s: the student's stages, maps (N, C, H, W) after their activation, and its pooled embedding (N, D) as a
    map of one position; t: the teacher's `preact` maps (or its stages, knob `teacher_maps`), and its
    embedding. The last stages are paired. One term for each of the student's levels, `reviewkd_stage1` ...
    `reviewkd_embedding`; the method's loss is their sum. The weight warms up over 20 of 240 epochs.

    mdistiller and the authors' code agree. Their table of sizes for each pair of networks is not needed here:
    sizes are read from the maps.
    """

    name: ClassVar[str] = "reviewkd"
    title: ClassVar[str] = "Knowledge review (ReviewKD)"
    help: ClassVar[str] = (
        "The student's deeper layers review the teacher's shallower ones: its stages are fused from the top "
        "down and compared at several resolutions. Adds a trained part, which is dropped at export."
    )
    family: ClassVar[str] = "features"
    source: ClassVar[str] = (
        "Chen, Liu, Zhao, Jia: Distilling Knowledge via Knowledge Review, CVPR 2021. arXiv:2104.09044; "
        "reading of github.com/megvii-research/mdistiller and github.com/dvlab-research/ReviewKD"
    )
    Knobs: ClassVar[type[Knobs]] = ReviewKdKnobs

    def __init__(self, knobs: Any) -> None:
        super().__init__(knobs)
        self.blocks = nn.ModuleDict()

    def choose(self, student: Shapes, teacher: Shapes) -> tuple[Pair, ...]:
        stages = both_maps(student, teacher)
        if self.knobs.teacher_maps == "before":
            stages = tuple((ours, theirs.replace("stage", "preact")) for ours, theirs in stages)
        return stages + (both_embeddings(student, teacher) if stages and self.knobs.embedding else ())

    def problems(self, student: Shapes, teacher: Shapes) -> list[str]:
        if why := super().problems(student, teacher):
            return why
        missing = [theirs for _, theirs in self.choose(student, teacher) if theirs not in teacher.taps]
        if missing:
            return [
                f"the teacher has no {', '.join(missing)}, its maps before an activation: "
                f"{have(student, teacher)}; set teacher_maps to 'after'"
            ]
        return []

    def build(self, student: Shapes, teacher: Shapes) -> None:
        super().build(student, teacher)
        middle = min(WIDEST, student.taps[self.pairs[-1][0]][0])
        for ours, theirs in self.pairs:
            deepest = ours == self.pairs[-1][0]
            self.blocks[ours] = Fusion(student.taps[ours][0], middle, teacher.taps[theirs][0], not deepest)

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        terms: Terms = {}
        fused: Tensor | None = None
        for ours, theirs in reversed(self.pairs):
            goal = _map(teacher.taps[theirs])
            answer, fused = self.blocks[ours](_map(student.taps[ours]), fused, goal.shape[2:])
            terms[f"reviewkd_{ours}"] = hierarchical(full_precision(answer), goal)
        return dict(reversed(terms.items()))


class Fusion(nn.Module):
    """One level's attention-based fusion. Started as in the authors' code."""

    def __init__(self, channels: int, middle: int, out: int, fuse: bool) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Conv2d(channels, middle, 1, bias=False), BatchNorm(middle))
        self.leave = nn.Sequential(nn.Conv2d(middle, out, 3, padding=1, bias=False), BatchNorm(out))
        self.attention = nn.Conv2d(2 * middle, 2, 1) if fuse else None
        for part in (self.enter, self.leave):
            nn.init.kaiming_uniform_(part[0].weight, a=1)  # type: ignore[arg-type]

    def forward(self, f: Tensor, deeper: Tensor | None, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """f: the student's map (N, C, H, W); deeper: the level below's fused map, of any size. Returns the
        answer (N, out, *size) and this level's fused map (N, middle, *size)."""
        x = self.enter(f)
        if self.attention is not None and deeper is not None:
            y = _nearest(deeper, x.shape[2:])
            share = self.attention(torch.cat([x, y], dim=1)).sigmoid()
            x = x * share[:, :1] + y * share[:, 1:]
        x = _nearest(x, size)
        return self.leave(x), x


def hierarchical(student: Tensor, teacher: Tensor) -> Tensor:
    """HCL: the mean squared difference of two maps of one shape (N, C, H, W), and of their average pools to
    4, 2 and 1 positions a side, with half the weight each time; a weighted mean. 0 when equal."""
    total, whole, weight = F.mse_loss(student, teacher), 1.0, 1.0
    for side in (4, 2, 1):
        if side < min(student.shape[2:]):
            weight /= 2
            whole += weight
            size = (side, side)
            total = total + weight * F.mse_loss(pooled(student, size), pooled(teacher, size))
    return total / whole


def _map(feature: Tensor) -> Tensor:
    exact = full_precision(feature)
    return exact[:, :, None, None] if exact.dim() == 2 else exact


def _nearest(feature_map: Tensor, size: tuple[int, int]) -> Tensor:
    return feature_map if feature_map.shape[2:] == size else F.interpolate(feature_map, size, mode="nearest")
