"""Are rivals faster as one stacked model than one after the other?

    python -m benchmarks.stacked [--rivals 5] [--students resnet8,resnet20] [--batch 64] [--repeats 7]

Forward and backward pass of several students of one architecture on the same batch, labels alone: one after
the other, and as one model by torch.func (weights stacked, vmap over them). In turn; medians of ratios, so
above 1 means that stacking is slower. It is, so rivals are not stacked: see docs/decisions.md.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from benchmarks import figures
from benchmarks.figures import Figure
from kd_engine import models


def main() -> None:
    parser = figures.parser(__doc__)
    parser.add_argument("--rivals", type=int, default=5)
    parser.add_argument("--students", default="resnet8,resnet20")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=7)
    asked = parser.parse_args()
    if asked.small:
        asked.rivals, asked.students, asked.batch, asked.repeats = 2, "resnet8", 8, 2
    figures.hand_over(measured(asked), asked.json)


def measured(asked: argparse.Namespace) -> list[Figure]:
    return [
        figures.over(
            f"{asked.rivals} students stacked ÷ one after the other",
            ratios(name, asked.rivals, asked.batch, asked.repeats),
            case=f"{name}, batch {asked.batch}, forward and backward",
            note="above 1: stacking is slower, so it is not done",
        )
        for name in asked.students.split(",")
    ]


def ratios(name: str, rivals: int, batch: int, repeats: int) -> list[float]:
    """Stacked over one after the other, pair by pair; the first pair warms up."""
    torch.manual_seed(0)
    students = [pooling_by_mean(models.create(name, 10, 32)) for _ in range(rivals)]
    for student in students:
        student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (batch,))
    weights, buffers = stack_module_state(students)  # type: ignore[arg-type]
    bare = copy.deepcopy(students[0]).to("meta")

    def loss(own: dict[str, Tensor], state: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(functional_call(bare, (own, state), (x,)), y)

    def in_turn() -> None:
        for student in students:
            F.cross_entropy(student(x), y).backward()

    def stacked() -> None:
        own = {key: value.detach().requires_grad_() for key, value in weights.items()}
        vmap(loss)(own, buffers).sum().backward()

    pairs = [(seconds(stacked), seconds(in_turn)) for _ in range(repeats + 1)]
    return [one / other for one, other in pairs[1:]]


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)


def pooling_by_mean(model: nn.Module) -> nn.Module:
    """The same model, pooled by an operation that vmap has a batched form of: no rival is crippled here."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d):
                setattr(module, name, Mean())
    return model


def seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
