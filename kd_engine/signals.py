"""What one model said about one batch: logits, taps by name, attention weights where the model has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Signals:
    """One model's answers to one batch.

    logits: (..., C). taps: by name, e.g. `stage1` (N, C, H, W), `block1` (N, T, D), `embedding` (N, D).
    attention: by block, (N, heads, T, T), rows sum to one; empty for models without attention.
    """

    logits: Tensor
    taps: Mapping[str, Tensor] = field(default_factory=dict)
    attention: Mapping[str, Tensor] = field(default_factory=dict)

    def detach(self) -> Signals:
        """The same values without their history."""
        return Signals(
            self.logits.detach(),
            {name: tensor.detach() for name, tensor in self.taps.items()},
            {name: tensor.detach() for name, tensor in self.attention.items()},
        )

    def shapes(self) -> Shapes:
        """Shapes of one sample: without the batch dimension."""
        return Shapes(
            self.logits.shape[-1],
            {name: tuple(tensor.shape[1:]) for name, tensor in self.taps.items()},
            {name: tuple(tensor.shape[1:]) for name, tensor in self.attention.items()},
        )


@dataclass(frozen=True)
class Shapes:
    """What a method needs to know of a model before training: the number of classes, and each tap's shape
    for one sample, e.g. `stage3` → (64, 8, 8), `block1` → (65, 192), `embedding` → (64,)."""

    classes: int
    taps: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    attention: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
