"""Where a map's activations are strong: `activity2.stage1`, the attention map that attention transfer
compares.

A teacher answers with these (N, H, W) beside its taps. They are as many times smaller than the map as it has
channels, so that they can be kept where the map cannot.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from kd_engine.methods import full_precision
from kd_engine.methods._features import unit_rows

ACTIVITY = re.compile(r"activity(\d)\.(.+)")


def activity_of(tap: str, p: int) -> str:
    """What the activity of a tap is called."""
    return f"activity{p}.{tap}"


def is_activity(name: str) -> bool:
    return ACTIVITY.fullmatch(name) is not None


def place_of(name: str) -> str:
    """The tap that an activity is of; any other name is its own."""
    match = ACTIVITY.fullmatch(name)
    return match[2] if match else name


def named(name: str, feature_map: Tensor) -> Tensor:
    """The activity of that name of a map (N, C, H, W)."""
    match = ACTIVITY.fullmatch(name)
    assert match is not None
    return activity(full_precision(feature_map), int(match[1]))


def activity(feature_map: Tensor, p: int) -> Tensor:
    """Mean over channels of |f|^p, f a map (N, C, H, W), each sample's scaled to length 1: (N, H, W)."""
    powers: Tensor = _MeanPower.apply(feature_map, p)  # type: ignore[no-untyped-call]
    return unit_rows(powers.flatten(1)).view_as(powers)


class _MeanPower(torch.autograd.Function):
    """Mean over channels of |f|^p, (N, H, W). Its own gradient, because autograd's walks the full map several
    times, and in the wrong order for channels_last maps: measured 4 to 9 times slower."""

    @staticmethod
    def forward(ctx: Any, f: Tensor, p: int) -> Tensor:
        ctx.save_for_backward(f)
        ctx.p = p
        return (f * f if p == 2 else f.abs().pow(p)).mean(1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (f,), p = ctx.saved_tensors, ctx.p
        slope = f if p == 2 else f.sign() * f.abs().pow(p - 1)
        return slope * (grads[0] * (p / f.shape[1])).unsqueeze(1), None
