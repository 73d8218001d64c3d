"""Semantic calibration: each stage of the student learns from all of the teacher's, weighed by attention."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd_engine.knobs import Knobs, knob
from kd_engine.methods import Method, MethodKnobs, Terms, full_precision
from kd_engine.methods._features import both_maps, nothing_common, pooled_to_smaller, unit_rows
from kd_engine.methods._regressors import BatchNorm
from kd_engine.signals import Shapes, Signals


class SemCkdKnobs(MethodKnobs):
    weight: float = knob(
        400.0,
        "How much it counts in the sum. Published: 400, on ImageNet 50, beside 1 for the labels and 1 for "
        "'kd'.",
        low=0,
        high=1e4,
        scale="log",
        live=True,
        unit="weight",
    )
    group: int = knob(
        64,
        "How many images are compared with each other to find out what a layer is about. Published: the "
        "batch size, 64. A larger batch is cut into such groups.",
        low=4,
        high=1024,
        scale="log",
        unit="images",
        advanced=True,
    )
    softness: float = knob(
        1.0,
        "Divides the scores before the softmax: higher spreads a student's stage over more of the teacher's.",
        low=0.01,
        high=100,
        scale="log",
        live=True,
        advanced=True,
    )


class SemCkd(Method):
    """1/S · mean over samples n of Σ_i Σ_j α_nij · mean over elements of (r_ij(f_i) − g_j)²

    f_i, g_j the maps (N, C, H, W) of the student's S stages and the teacher's T; the larger of two is first
    average-pooled to the smaller. α_ni. = softmax over j of q_ni · k_nj, the attention of sample n's stage i.
    Queries and keys are made of similarities: with A = F Fᵀ over the samples of a group, F = a map's rows
    flattened, q_ni is row n of A_i through linear, ReLU, linear, and scaled to length 1; k_nj likewise. All
    parts (a query net for each stage of the student, a key net for each of the teacher's, r_ij three
    convolutions 1×1, 3×3, 1×1 with BatchNorm and ReLU between, twice as wide as the teacher) learn with the
    student. One term for each of the student's stages, `semckd_stage1` ...; the method's loss is their sum.

    A row of A has as many numbers as the group has samples, and its nets must have that width: in the
    reference code it is the batch size, and an incomplete batch is skipped. Here it is the knob `group`: a
    larger batch is cut into groups, and missing samples count as zeros, so that every batch teaches; a batch
    of exactly that size gives the reference's loss. Which sample stands where in a row depends on the order
    of the batch, and so does the loss: in the paper, too. `softness` is the SimKD repository's; the paper has
    1. The loss also moves the student through α, as in the reference code.
    """

    name: ClassVar[str] = "semckd"
    title: ClassVar[str] = "Semantic calibration (SemCKD)"
    help: ClassVar[str] = (
        "No stage is paired by hand: for each image attention finds out from which of the teacher's stages a "
        "stage of the student learns. Adds large trained parts, which are dropped at export."
    )
    family: ClassVar[str] = "features"
    source: ClassVar[str] = (
        "Chen, Mei, Zhang, Wang, Wang, Feng, Chen: Cross-Layer Distillation with Semantic Calibration, AAAI "
        "2021. arXiv:2012.03236; reading of github.com/DefangChen/SemCKD and github.com/DefangChen/SimKD"
    )
    caution: ClassVar[str] = (
        "The published weight is near the edge of what a learning rate of 0.05 allows: on the bundled digits "
        "400 was restless or diverged where 100 fell steadily."
    )
    Knobs: ClassVar[type[Knobs]] = SemCkdKnobs
    depends_on_order: ClassVar[bool] = True

    def __init__(self, knobs: Any) -> None:
        super().__init__(knobs)
        self.queries = nn.ModuleDict()
        self.keys = nn.ModuleDict()
        self.regressors = nn.ModuleDict()

    def student_taps(self, student: Shapes, teacher: Shapes) -> tuple[str, ...]:
        return _maps(student) if _maps(teacher) else ()

    def teacher_taps(self, student: Shapes, teacher: Shapes) -> tuple[str, ...]:
        return _maps(teacher) if _maps(student) else ()

    def problems(self, student: Shapes, teacher: Shapes) -> list[str]:
        if _maps(student) and _maps(teacher):
            return []
        return [nothing_common("map taps (stage1, stage2, ...) in both", student, teacher)]

    def build(self, student: Shapes, teacher: Shapes) -> None:
        width = self.knobs.group
        self.queries.update({ours: embedder(width) for ours in _maps(student)})
        self.keys.update({theirs: embedder(width) for theirs in _maps(teacher)})
        for ours in _maps(student):
            for theirs in _maps(teacher):
                channels = student.taps[ours][0], teacher.taps[theirs][0]
                self.regressors[f"{ours}_{theirs}"] = regressor(*channels)

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        attention = self.attention(student, teacher)
        terms = {}
        for i, ours in enumerate(self.queries):
            gaps = [self._gap(student, teacher, ours, theirs) for theirs in self.keys]
            weighed = (attention[:, i] * torch.stack(gaps, dim=1)).sum(1)
            terms[f"semckd_{ours}"] = weighed.mean() / len(self.queries)
        return terms

    def attention(self, student: Signals, teacher: Signals) -> Tensor:
        """α: from which of the teacher's T stages each of the student's S learns, (N, S, T); rows sum to
        1."""
        width = self.knobs.group
        with torch.autocast(student.logits.device.type, enabled=False):  # in fp16 similarities are infinite
            queries = [net(similarities(student.taps[name], width)) for name, net in self.queries.items()]
            keys = [net(similarities(teacher.taps[name], width)) for name, net in self.keys.items()]
            q, k = (unit_rows(torch.stack(rows, dim=1)) for rows in (queries, keys))
            scores: Tensor = q @ k.mT / self.knobs.softness
        return scores.softmax(-1)

    def _gap(self, student: Signals, teacher: Signals, ours: str, theirs: str) -> Tensor:
        f, g = pooled_to_smaller(student.taps[ours], teacher.taps[theirs])
        answer = full_precision(self.regressors[f"{ours}_{theirs}"](f))
        return (answer - g).square().flatten(1).mean(1)


def similarities(feature: Tensor, width: int) -> Tensor:
    """Inner products of every sample's features with those of all samples of its group, (N, width): the batch
    in groups of `width`, rows of a smaller one filled up with zeros. feature: (N, ...)."""
    groups = torch.split(full_precision(feature).flatten(1), width)
    return torch.cat([F.pad(group @ group.T, (0, width - len(group))) for group in groups])


def embedder(width: int) -> nn.Sequential:
    """From a row of `width` similarities to a vector of a quarter of it."""
    quarter = width // 4
    return nn.Sequential(nn.Linear(width, 2 * quarter), nn.ReLU(), nn.Linear(2 * quarter, quarter))


def regressor(channels: int, out: int) -> nn.Sequential:
    """Three convolutions without bias, 1×1, 3×3, 1×1, with BatchNorm and ReLU between."""
    wide = 2 * out
    return nn.Sequential(
        nn.Conv2d(channels, wide, 1, bias=False),
        BatchNorm(wide),
        nn.ReLU(),
        nn.Conv2d(wide, wide, 3, padding=1, bias=False),
        BatchNorm(wide),
        nn.ReLU(),
        nn.Conv2d(wide, out, 1, bias=False),
    )


def _maps(shapes: Shapes) -> tuple[str, ...]:
    return tuple(name for name, _ in both_maps(shapes, shapes))
