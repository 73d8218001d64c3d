"""Attention rollout: which patches a transformer draws on, through all its blocks up to a chosen one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kd_engine.probes import Look, Probe, grid, places, to_heat
from kd_engine.taps import ATTENTION, Reader, Tap


class Rollout(Probe):
    """R = Ā_L · ... · Ā_1, where Ā = ½·A + ½·I with rows scaled to sum 1, and A the mean over heads of a
    block's attention weights (T, T). heat = the class token's row over the patches; without one, the mean
    row."""

    name: ClassVar[str] = "rollout"
    title: ClassVar[str] = "Attention rollout"
    help: ClassVar[str] = "Which patches the output draws on, through all blocks up to the chosen one."
    needs: ClassVar[str] = "attention weights"
    source: ClassVar[str] = (
        "Abnar, Zuidema: Quantifying Attention Flow in Transformers, ACL 2020. arXiv:2005.00928"
    )

    @classmethod
    def taps(cls, taps: Mapping[str, Tap]) -> tuple[str, ...]:
        return places(taps, "attention")

    @classmethod
    @torch.no_grad()
    def look(cls, model: nn.Module, taps: Mapping[str, Tap], tap: str, image: Tensor, knobs: Any) -> Look:
        blocks = [taps[name] for name in reversed(cls.taps(taps))]
        blocks = blocks[: blocks.index(taps[tap]) + 1]
        with Reader(model, blocks) as reader:
            attention = reader(image.unsqueeze(0)).attention
        weights = [attention[block.name.removeprefix(ATTENTION)][0] for block in blocks]
        rolled = rollout([heads.float().mean(0) for heads in weights])
        height, width, extra = grid(rolled.shape[0], image)
        row = rolled[0] if extra else rolled.mean(0)
        heat = to_heat(row[extra:].reshape(height, width), image)
        return Look({"heat": heat}, {}, tuple(weights[-1].shape))


def rollout(attention: list[Tensor]) -> Tensor:
    """The rollout (T, T) of each block's attention weights (T, T), first block first. Rows sum to 1."""
    rolled = torch.eye(attention[0].shape[0], device=attention[0].device)
    for weights in attention:
        mixed = 0.5 * weights + 0.5 * torch.eye(weights.shape[0], device=weights.device)
        rolled = mixed / mixed.sum(-1, keepdim=True) @ rolled
    return rolled
