"""Soft targets: what a model says about all classes, before any temperature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from kd_engine.probes import Look, Probe
from kd_engine.taps import Tap


class SoftTargets(Probe):
    """The logits (C,) as float32, for the temperature lens. It needs no tap: the only choice is "logits"."""

    name: ClassVar[str] = "soft-targets"
    title: ClassVar[str] = "Soft targets"
    help: ClassVar[str] = "The scores of all classes; the temperature lens turns them into probabilities."
    source: ClassVar[str] = (
        "Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015. arXiv:1503.02531"
    )
    kind: ClassVar[str] = "logits"

    @classmethod
    def taps(cls, taps: Mapping[str, Tap]) -> tuple[str, ...]:
        return ("logits",)

    @classmethod
    @torch.no_grad()
    def look(cls, model: nn.Module, taps: Mapping[str, Tap], tap: str, image: Tensor, knobs: Any) -> Look:
        logits = model(image.unsqueeze(0))[0].float()
        best = int(logits.argmax())
        numbers = {"class": float(best), "confidence": float(logits.softmax(-1)[best])}
        return Look({"logits": np.asarray(logits.cpu().numpy())}, numbers, tuple(logits.shape))
