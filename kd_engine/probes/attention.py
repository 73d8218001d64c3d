"""Activation attention: where in the image the activations at a tap are strong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kd_engine.probes import Look, Probe, on_grid, read, to_heat
from kd_engine.taps import Tap


class Attention(Probe):
    """heat = mean over channels of f², the map that attention transfer compares. For tokens the squared norm
    of each patch's token over D: the same formula, so that a transformer and a convolutional network share
    one scale."""

    name: ClassVar[str] = "attention"
    title: ClassVar[str] = "Activation attention"
    help: ClassVar[str] = "Where the activations of a layer are strong, whatever class they speak for."
    source: ClassVar[str] = (
        "Zagoruyko, Komodakis: Paying More Attention to Attention, ICLR 2017. arXiv:1612.03928"
    )

    @classmethod
    @torch.no_grad()
    def look(cls, model: nn.Module, taps: Mapping[str, Tap], tap: str, image: Tensor, knobs: Any) -> Look:
        seen, _ = read(model, taps[tap], image)
        maps = on_grid(seen, image) if taps[tap].layout == "tokens" else seen
        return Look({"heat": to_heat(maps[0].float().square().mean(0), image)}, {}, tuple(seen.shape[1:]))
