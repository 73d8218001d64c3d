"""What methods on features share: which taps are compared, two maps at one size, the words of a refusal."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kd_engine.knobs import Knobs, knob
from kd_engine.methods import Method, MethodKnobs, full_precision, pair_taps
from kd_engine.signals import Shapes

Pair = tuple[str, str]  # the student's tap and the teacher's
Stages = Literal["all", "last"]


class StageKnobs(MethodKnobs):
    """For methods that compare several stages; subclasses restate the weight."""

    stages: Stages = knob("all", "Which stages are compared: all that both models have, or the last.")


class PairMethod(Method):
    """A method that reads pairs of taps, a student's and a teacher's. Subclasses write `choose` and `terms`.

    `self.pairs` holds them once prepared. No pair is a refusal that says what both models have: `wants` are
    the words for what was looked for.
    """

    Knobs: ClassVar[type[Knobs]] = StageKnobs
    wants: ClassVar[str] = "common map taps (stage1, stage2, ...)"

    def __init__(self, knobs: Any) -> None:
        super().__init__(knobs)
        self.pairs: tuple[Pair, ...] = ()

    def choose(self, student: Shapes, teacher: Shapes) -> tuple[Pair, ...]:
        """The pairs to compare; here the maps of the stages that the knob `stages` asks for."""
        return both_maps(student, teacher, self.knobs.stages)

    def student_taps(self, student: Shapes, teacher: Shapes) -> tuple[str, ...]:
        return tuple(ours for ours, _ in self.choose(student, teacher))

    def teacher_taps(self, student: Shapes, teacher: Shapes) -> tuple[str, ...]:
        return tuple(theirs for _, theirs in self.choose(student, teacher))

    def problems(self, student: Shapes, teacher: Shapes) -> list[str]:
        return [] if self.choose(student, teacher) else [nothing_common(self.wants, student, teacher)]

    def build(self, student: Shapes, teacher: Shapes) -> None:
        self.pairs = self.choose(student, teacher)


def both_maps(
    student: Shapes,
    teacher: Shapes,
    stages: Stages = "all",
    least_positions: int = 1,
    series: str = "stage",
) -> tuple[Pair, ...]:
    """The stages whose taps are maps (C, H, W) with `least_positions` places or more in both models, first
    stage first; "last" keeps the last of them. Paired from the last backwards (`pair_taps`). series: how
    their taps begin, such as "preact"."""
    pairs = tuple(
        (ours, theirs)
        for ours, theirs in pair_taps(student, teacher, series)
        if len(student.taps[ours]) == 3 == len(teacher.taps[theirs])
        and min(positions(student.taps[ours]), positions(teacher.taps[theirs])) >= least_positions
    )
    return pairs[-1:] if stages == "last" else pairs


def both_embeddings(student: Shapes, teacher: Shapes) -> tuple[Pair, ...]:
    """The pooled embeddings (D,), as one pair; empty unless both models have one."""
    return (("embedding", "embedding"),) if _has_embedding(student) and _has_embedding(teacher) else ()


def both_features(student: Shapes, teacher: Shapes, stages: Stages = "all") -> tuple[Pair, ...]:
    """The features before pooling, whatever their layout: each model's stages, or blocks where it has no
    stages (a transformer), first ones first; "last" keeps the last. Paired from the last backwards, so that
    a convolutional student's last stage meets a transformer's last block."""
    ours, theirs = _series(student), _series(teacher)
    shared = min(len(ours), len(theirs))
    pairs = tuple(zip(ours[len(ours) - shared :], theirs[len(theirs) - shared :], strict=True))
    return pairs[-1:] if stages == "last" else pairs


def pooled_to_smaller(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Two maps (N, C, H, W), the larger one average-pooled to the height and width of the smaller, each side
    by itself; half precision becomes float32. C may differ."""
    height, width = (min(student.shape[side], teacher.shape[side]) for side in (2, 3))
    return pooled(student, (height, width)), pooled(teacher, (height, width))


def pooled(feature_map: Tensor, size: tuple[int, int]) -> Tensor:
    """A map (N, C, H, W), average-pooled to `size` (height, width) where it has another; float32 at least."""
    exact = full_precision(feature_map)
    return exact if exact.shape[2:] == size else F.adaptive_avg_pool2d(exact, size)


def unit_rows(vectors: Tensor) -> Tensor:
    """Vectors (..., D) scaled to length 1. A zero vector stays zero and gets no gradient; F.normalize gives
    it one of 1e12, which a single dead map would hand on to the whole student."""
    length: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / length.masked_fill(length < 1e-12, math.inf)


def exact_products(near: Tensor) -> torch.autocast:
    """A context, for the device of `near`, in which matrix products of float32 factors are float32.

    A half-precision run rounds them: likenesses and flows are then infinite in fp16, and in bf16 their
    differences drown.
    """
    return torch.autocast(near.device.type, enabled=False)


def positions(shape: tuple[int, ...]) -> int:
    """How many places a map (C, H, W) has."""
    return math.prod(shape[1:])


def names(shapes: Shapes) -> str:
    """A model's taps, for a sentence."""
    return ", ".join(shapes.taps) or "no taps at all"


def have(student: Shapes, teacher: Shapes) -> str:
    """What both models have, for a sentence."""
    return f"the student has {names(student)}, the teacher {names(teacher)}"


def nothing_common(wants: str, student: Shapes, teacher: Shapes) -> str:
    """The refusal of a method that needs `wants` in both models."""
    return f"no {wants}: {have(student, teacher)}; use a method on logits, such as 'kd'"


def unlike_channels(pairs: Iterable[Pair], student: Shapes, teacher: Shapes) -> list[str]:
    """The refusal of a method that needs equal channel counts in each of `pairs` of maps; empty if it has."""
    unlike = [
        f"{ours} has {student.taps[ours][0]} against {theirs}'s {teacher.taps[theirs][0]}"
        for ours, theirs in pairs
        if student.taps[ours][0] != teacher.taps[theirs][0]
    ]
    if not unlike:
        return []
    return [
        f"it needs equal channel counts in student and teacher: {', '.join(unlike)}; take a teacher of the "
        "same width, or a method that allows for others, such as 'at'"
    ]


def _series(shapes: Shapes) -> list[str]:
    pairs = pair_taps(shapes, shapes) or pair_taps(shapes, shapes, "block")
    return [name for name, _ in pairs]


def _has_embedding(shapes: Shapes) -> bool:
    return len(shapes.taps.get("embedding", ())) == 1
