"""Probes: questions to a model that teach it nothing. Each maps one image to arrays to draw.

`kd_engine.looking.ask` calls a probe with the model in eval mode, and restores modes, gradients and
generators.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd_engine.errors import KdError
from kd_engine.knobs import Knobs
from kd_engine.registry import Plugin
from kd_engine.taps import ATTENTION, PREACT, Reader, Tap


@dataclass(frozen=True)
class Look:
    """What a probe saw.

    arrays: `heat` (H, W) float32 in 0 to 1 at the image's size for maps; `logits` (C,) for soft targets.
    numbers: plain figures, such as the class that was explained. shape: of the tensor that was read, for one
    sample.
    """

    arrays: Mapping[str, np.ndarray]
    numbers: Mapping[str, float]
    shape: tuple[int, ...] = ()


class Probe(Plugin):
    """Base of all probes."""

    Knobs: ClassVar[type[Knobs]] = Knobs
    kind: ClassVar[str] = "heat"  # "heat": a map over the image; "logits": a vector
    needs: ClassVar[str] = "feature maps or tokens"  # what it reads, for the message when a model has none

    @classmethod
    def taps(cls, taps: Mapping[str, Tap]) -> tuple[str, ...]:
        """Which of a model's taps it can look at, best first; the first is "auto". Empty: at none."""
        return places(taps, "map", "tokens")

    @classmethod
    def look(cls, model: nn.Module, taps: Mapping[str, Tap], tap: str, image: Tensor, knobs: Any) -> Look:
        """Look at `image` (3, H, W), normalised, through `tap`. The model is in eval mode, on the image's
        device.

        Gradients are allowed, but parameters and their `.grad` stay as they are. KdError: it cannot look
        there.
        """
        raise NotImplementedError(cls)


Base = Probe


def places(taps: Mapping[str, Tap], *layouts: str) -> tuple[str, ...]:
    """The names of the taps of these layouts, the last of the forward pass first.

    Maps before an activation are for methods; to look at, there are the same maps after it.
    """
    return tuple(
        name
        for name, tap in reversed(list(taps.items()))
        if tap.layout in layouts and not name.startswith(PREACT)
    )


def read(model: nn.Module, tap: Tap, image: Tensor) -> tuple[Tensor, Tensor]:
    """What `tap`, a map or tokens, gives for one image (3, H, W), and the logits: both with a batch of 1."""
    with Reader(model, [tap]) as reader:
        signals = reader(image.unsqueeze(0))
    return signals.taps[tap.name], signals.logits


def on_grid(tokens: Tensor, image: Tensor) -> Tensor:
    """Patch tokens (N, T, D) as a map (N, D, H, W) with the image's proportions.

    Up to two tokens at the start that are no patches (class, distillation) are left out. KdError when no such
    grid has T cells.
    """
    height, width, extra = grid(tokens.shape[1], image)
    return tokens[:, extra:].reshape(len(tokens), height, width, -1).permute(0, 3, 1, 2)


def grid(tokens: int, image: Tensor) -> tuple[int, int, int]:
    """Rows and columns of patches over an image (..., H, W), and how many `tokens` are no patches."""
    ratio = image.shape[-2] / image.shape[-1]
    for extra in range(3):
        height = round(math.sqrt((tokens - extra) * ratio))
        width = round(height / ratio)
        if tokens > extra and height * width == tokens - extra:
            return height, width, extra
    raise KdError(
        f"{tokens} tokens make no grid over an image of {image.shape[-2]}×{image.shape[-1]} pixels.",
        "Only patches in rows, after at most two other tokens, can be drawn.",
    )


def to_heat(strength: Tensor, image: Tensor) -> np.ndarray:
    """`strength` (h, w), not negative, as a heatmap (H, W) at the image's size: bilinear, then scaled to a
    maximum of 1; all zero stays all zero. float32."""
    size = (image.shape[-2], image.shape[-1])
    heat = F.interpolate(
        strength.detach().float()[None, None], size=size, mode="bilinear", align_corners=False
    )
    peak = heat.max()
    scaled = heat / peak if peak > 0 else torch.zeros_like(heat)
    return np.asarray(scaled[0, 0].clamp(0, 1).cpu().numpy(), dtype=np.float32)


def share_on_object(heat: np.ndarray, mask: np.ndarray) -> float:
    """The share of the heat (H, W) inside the object's mask (H, W; true, or 0 to 1), 0 to 1; 0 when there is
    no heat.

    A map that is the same everywhere gives the object's share of the image's area: that is the value of
    chance.
    """
    if heat.shape != mask.shape:
        raise ValueError(f"heat {heat.shape} and mask {mask.shape} differ in shape")
    total = float(heat.sum(dtype=np.float64))
    return float((heat * mask).sum(dtype=np.float64)) / total if total > 0 else 0.0


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    """The cosine between two heatmaps of one shape: 1 for the same picture at any strength, 0 where they
    never overlap, and 0 when one is empty."""
    if one.shape != other.shape:
        raise ValueError(f"heatmaps {one.shape} and {other.shape} differ in shape")
    a, b = one.astype(np.float64).ravel(), other.astype(np.float64).ravel()
    lengths = math.sqrt(float(a @ a)) * math.sqrt(float(b @ b))
    return float(a @ b) / lengths if lengths > 0 else 0.0


def words(tap: Tap, shape: tuple[int, ...], last: bool = False) -> str:
    """A tap for people: "last stage, 8×8, 64 channels", "block 2, 65 tokens of 192".

    shape: of one sample, see `Tap.layout`; empty where unknown. last: the last of its kind in the model.
    """
    name = tap.name.removeprefix(ATTENTION)
    numbered = re.fullmatch(r"(\D+?)_?(\d+)", name)
    place = name if numbered is None else f"last {numbered[1]}" if last else f"{numbered[1]} {numbered[2]}"
    if not shape:
        return place
    if tap.layout == "attention":
        return f"attention in {place}, {shape[0]} heads"
    if tap.layout == "map":
        return f"{place}, {shape[1]}×{shape[2]}, {shape[0]} channels"
    if tap.layout == "tokens":
        return f"{place}, {shape[0]} tokens of {shape[1]}"
    return f"{place}, {shape[0]} values"
