"""Use an exported student: images in, class scores out, with the normalisation that it was trained with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kd_engine import card as cards
from kd_engine import graft, models, weights
from kd_engine.errors import WeightsError


class Deployed(nn.Module):
    """A model with its normalisation: takes RGB images (N, 3, S, S), float 0 to 1 or uint8, and gives
    logits (N, C).

    classes: names, in the order of the logits. card: see kd_engine.card.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, card: Mapping[str, Any]) -> None:
        super().__init__()
        self.model = model
        self.card = dict(card)
        self.classes = list(card["classes"])
        self.register_buffer("mean", torch.tensor(card["input"]["mean"]).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(card["input"]["std"]).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """ValueError for what is no batch of RGB images, channels first."""
        if images.ndim != 4 or images.shape[1] != 3:
            size = self.card["input"]["size"]
            raise ValueError(
                f"expected RGB images (N, 3, {size}, {size}), channels first; got {tuple(images.shape)}"
            )
        scaled = images.float() / 255 if images.dtype == torch.uint8 else images
        answer: Tensor = self.model((scaled - self.mean) / self.std)
        return answer


def load_model(path: str | Path) -> Deployed:
    """The model in a file that kd-studio wrote, in eval mode, on the CPU. WeightsError when there is no such
    file, when it has no card, or does not fit it."""
    file = Path(path).expanduser()
    state = weights.read_state(file)
    card = cards.read(file)
    if card is None:
        raise WeightsError(
            f"{file}: has no model card that can be read, so its architecture is not known.",
            "Export it from a run: kd export RUN --format safetensors --out FILE.",
        )
    model = models.create(card["model"], len(card["classes"]), card["input"]["size"], **card["knobs"])
    graft.rebuild(model, card)
    weights.fit(model, state, str(file))
    return Deployed(model, card).eval()
