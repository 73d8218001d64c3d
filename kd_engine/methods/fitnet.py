"""Hints: in a middle layer the student's features, through a small regressor, match the teacher's."""

from __future__ import annotations

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from kd_engine.errors import did_you_mean
from kd_engine.knobs import Knobs, knob
from kd_engine.methods import Method, MethodKnobs, Terms, full_precision, pair_taps
from kd_engine.methods._features import Pair, have, nothing_common
from kd_engine.signals import Shapes, Signals


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


class FitNet(Method):
    """mean (r(f_s) − f_t)² over the batch and all elements of the hint layer; f_s the student's tap, f_t the
    teacher's.

    r is trained with the student: convolution, BatchNorm, ReLU (RepDistiller's ConvReg). Maps (C, H, W) of
    equal size get a 1×1 convolution, a student map twice as large a 3×3 one with stride 2, half as large a
    transposed 4×4 one with stride 2. For any other ratio the student's map is average-pooled (or upsampled
    bilinearly) to the teacher's size before the 1×1 convolution; RepDistiller has a kernel as large as the
    difference for larger ones, and fails for smaller ones. Tokens (T, D) get the 1×1 convolution, without the
    ReLU because a block's tokens have both signs; their number T must agree.

    The paper trains the lower half of the student on the hint alone before distilling, and its regressor has
    no BatchNorm. RepDistiller adds the hint to the labels' loss throughout, as here.
    """

    name: ClassVar[str] = "fitnet"
    title: ClassVar[str] = "Hints (FitNets)"
    help: ClassVar[str] = (
        "The student's features of one middle layer are regressed to the teacher's. Adds a small trained "
        "part, which is dropped at export."
    )
    source: ClassVar[str] = (
        "Romero et al.: FitNets: Hints for Thin Deep Nets, ICLR 2015. arXiv:1412.6550; "
        "reading of github.com/HobbitLong/RepDistiller"
    )
    Knobs: ClassVar[type[Knobs]] = FitNetKnobs

    def __init__(self, knobs: Any) -> None:
        super().__init__(knobs)
        self.pair: Pair = ("", "")
        self.regressor = nn.Sequential()

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
        if _as_map(theirs)[1:] == (1, 1):
            return [f"{what}: a hint needs more than one position; choose an earlier tap"]
        return []

    def build(self, student: Shapes, teacher: Shapes) -> None:
        pair = self._choose(student, teacher)
        assert pair is not None  # `problems` was asked first
        self.pair = pair
        self.regressor = regressor(student.taps[pair[0]], teacher.taps[pair[1]])

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        ours, theirs = (
            full_precision(s.taps[name]) for s, name in zip((student, teacher), self.pair, strict=True)
        )
        if ours.ndim == 3:  # tokens (N, T, D) as a map (N, D, T, 1)
            ours, theirs = (tokens.transpose(1, 2).unsqueeze(-1) for tokens in (ours, theirs))
        return {"fitnet": F.mse_loss(full_precision(self.regressor(ours)), theirs)}

    def _choose(self, student: Shapes, teacher: Shapes) -> Pair | None:
        pairs = pair_taps(student, teacher) or pair_taps(student, teacher, "block")
        if self.knobs.hint == "auto":
            return pairs[(len(pairs) - 1) // 2] if pairs else None
        unnumbered = [
            (name, name) for name in student.taps if name in teacher.taps and not name[-1].isdigit()
        ]
        return next((pair for pair in (*pairs, *unnumbered) if pair[0] == self.knobs.hint), None)


def regressor(student: tuple[int, ...], teacher: tuple[int, ...]) -> nn.Sequential:
    """What turns the student's shape (C, H, W), or (T, D), into the teacher's; see `FitNet`."""
    (c, h, w), (out, height, width) = _as_map(student), _as_map(teacher)
    resize: nn.Module | None = None
    conv: nn.Module = nn.Conv2d(c, out, 1, bias=False)  # BatchNorm follows: a bias would be taken out again
    if (h, w) == (2 * height, 2 * width):
        conv = nn.Conv2d(c, out, 3, stride=2, padding=1, bias=False)
    elif (2 * h, 2 * w) == (height, width):
        conv = nn.ConvTranspose2d(c, out, 4, stride=2, padding=1, bias=False)
    elif h <= height and w <= width and (h, w) != (height, width):
        resize = nn.Upsample(size=(height, width), mode="bilinear", align_corners=False)
    elif (h, w) != (height, width):
        resize = nn.AdaptiveAvgPool2d((height, width))
    parts = [resize, conv, nn.BatchNorm2d(out), nn.ReLU() if len(student) == 3 else None]
    return nn.Sequential(*(part for part in parts if part is not None))


def _as_map(shape: tuple[int, ...]) -> tuple[int, int, int]:
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (shape[1], shape[0], 1)
