"""Probes: questions to a model that teach it nothing. Each maps one image to arrays to draw.

The session calls a probe with the model in eval mode and restores modes, gradients, generators afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from kd_engine.knobs import Knobs
from kd_engine.registry import Plugin
from kd_engine.taps import Tap


@dataclass(frozen=True)
class Look:
    """What a probe saw. arrays: `heat` (H, W) float32 in 0 to 1 at the image's size for maps; `logits` (C,) for soft
    targets. numbers: plain figures, e.g. `on_object`, the share of the heat inside the object's mask."""

    arrays: Mapping[str, np.ndarray]
    numbers: Mapping[str, float]


class Probe(Plugin):
    """Base of all probes."""

    Knobs: ClassVar[type[Knobs]] = Knobs
    kind: ClassVar[str] = "heat"  # "heat": a map over the image; "logits": a vector

    @classmethod
    def taps(cls, taps: Mapping[str, Tap]) -> tuple[str, ...]:
        """Which of a model's taps it can look at, best first; the first is "auto". Empty: it cannot look at this model."""
        return tuple(taps)

    @classmethod
    def look(cls, model: nn.Module, taps: Mapping[str, Tap], tap: str, image: Tensor, knobs: Any) -> Look:
        """Look at `image` (3, H, W), normalised, through `tap`. The model is in eval mode; gradients are allowed here."""
        raise NotImplementedError(cls)


Base = Probe
