"""Read tensors out of a model by place, without changing the model.

Sharp edge: an in-place operation after a tapped module would change what was recorded; `Reader` therefore turns the
`inplace` flags of the model's activations off, which changes no number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kd_engine.errors import KdError, did_you_mean
from kd_engine.signals import Shapes, Signals

Layout = Literal["map", "tokens", "vector", "attention"]


@dataclass(frozen=True)
class Tap:
    """A named place in a model.

    name: `stem`, `stage1` ... `stageK`, `block1` ... `blockK`, `embedding`. path: of the submodule whose output is read.
    layout: map (N, C, H, W), tokens (N, T, D), vector (N, D), or attention (N, heads, T, T) weights.
    """

    name: str
    path: str
    layout: Layout = "map"


class Reader:
    """A model with an ear at some of its taps: call it with a batch and get Signals.

    The hooks stand from construction to `close()` (or the end of a `with` block), and record only during a call of the
    reader itself, so that the model can be used directly at the same time.
    """

    def __init__(self, model: nn.Module, taps: Iterable[Tap]) -> None:
        self.model = model
        self.taps = tuple(taps)
        self._seen: dict[Tap, Tensor] | None = None
        modules = dict(model.named_modules())
        for module in modules.values():
            if getattr(module, "inplace", False) is True:
                module.inplace = False  # type: ignore[assignment]
        for tap in self.taps:
            if tap.path not in modules:
                raise KdError(
                    f"tap '{tap.name}': the model has no part '{tap.path}'{did_you_mean(tap.path, modules)}"
                )
        self._hooks = [modules[tap.path].register_forward_hook(self._record(tap)) for tap in self.taps]

    def __call__(self, inputs: Tensor) -> Signals:
        self._seen = seen = {}
        try:
            logits = self.model(inputs)
        finally:
            self._seen = None
        maps = {tap.name: seen[tap] for tap in self.taps if tap.layout != "attention"}
        attention = {tap.name: seen[tap] for tap in self.taps if tap.layout == "attention"}
        return Signals(logits, maps, attention)

    def close(self) -> None:
        """Take the hooks off. Idempotent."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _record(self, tap: Tap) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if self._seen is not None:
                tensor = output[0] if isinstance(output, tuple) else output
                self._seen[tap] = tensor.flatten(1) if tap.layout == "vector" else tensor

        return hook


def measure(model: nn.Module, taps: Mapping[str, Tap], size: int, channels: int = 3) -> Shapes:
    """The shapes of all taps, by one forward of zeros in eval mode: no statistic, no mode, no generator is changed."""
    modes = {module: module.training for module in model.modules()}
    device = next(model.parameters()).device
    try:
        model.eval()
        with torch.no_grad(), Reader(model, taps.values()) as reader:
            return reader(torch.zeros(2, channels, size, size, device=device)).shapes()
    finally:
        for module, training in modes.items():
            module.training = training
