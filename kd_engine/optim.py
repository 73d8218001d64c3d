"""Optimizers and learning-rate schedules, from their recipe sections. A rate is a pure function of the step
number."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from kd_engine.recipe import NamedSection


def make_optimizer(
    section: NamedSection, parameters: Iterable[nn.Parameter], recorded: bool = False
) -> torch.optim.Optimizer:
    """The optimizer that the section names, fused where the device allows. recorded: its steps may be
    replayed, see kd_engine.replay, so that what changes from step to step must be on the device."""
    settings = dict(section.more)
    kept = list(parameters)
    fused = all(p.device.type in ("cpu", "cuda") and p.dtype is torch.float32 for p in kept)
    if recorded and kept:
        settings["lr"] = torch.tensor(settings["lr"], dtype=torch.float32, device=kept[0].device)
    if section.name == "sgd":
        return torch.optim.SGD(kept, **settings, fused=fused)
    return torch.optim.AdamW(
        kept,
        lr=settings["lr"],
        betas=(settings["beta1"], settings["beta2"]),
        weight_decay=settings["weight_decay"],
        fused=fused,
        capturable=recorded,
    )


def rate_factor(schedule: NamedSection, step: int, steps: int, steps_per_epoch: int) -> float:
    """What the base learning rate is multiplied by for step `step` (from 0) of `steps` in the stage.

    Warm-up climbs linearly and reaches 1 with the last of its steps; then the schedule runs over what is
    left.
    """
    settings = schedule.more
    warmup_epochs: float = settings["warmup_epochs"]
    warmup = min(round(warmup_epochs * steps_per_epoch), steps)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    if schedule.name == "cosine":
        final = float(settings["final"])
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))
    if schedule.name == "step":
        passed = sum(step / steps >= milestone for milestone in milestones(settings["milestones"]))
        return math.pow(settings["factor"], passed)
    return 1.0


def milestones(text: str) -> list[float]:
    """`"0.5,0.75"` as numbers. ValueError when it is not a list of shares."""
    return [float(part) for part in text.split(",") if part.strip()]


def clear_gradients(optimizer: torch.optim.Optimizer) -> None:
    """As its `zero_grad`, which also marks the place for a profiler: that takes longer than the work."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None


def take_step(optimizer: torch.optim.Optimizer) -> None:
    """As its `step`, without a profiler's mark, which costs a small network a part of every step, and without
    hooks, which nobody has hung in."""
    step = type(optimizer).step
    if getattr(step, "hooked", False):  # so torch marks what it has wrapped
        step = step.__wrapped__  # type: ignore[attr-defined]
    step(optimizer)


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr
