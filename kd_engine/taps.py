"""Read tensors out of a model by place, without changing the model.

Sharp edge: an in-place operation after a tapped module would change what was recorded; `Reader` therefore
turns the `inplace` flags of the model's activations off, which changes no number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kd_engine.errors import KdError, did_you_mean
from kd_engine.signals import Classifier, Shapes, Signals

Layout = Literal["map", "tokens", "vector", "attention", "values"]
ATTENTION = "attention."  # starts the name of every attention tap
VALUE = "value."  # and of every tap of the values that attention mixes
PREACT = "preact"  # and of every map that is also heard after its activation
PROJECTED = "projected"  # the last map of a student with its teacher's classifier (kd_engine.graft)


@dataclass(frozen=True)
class Tap:
    """A named place in a model.

    name: `stem`, `stage1` ... `stageK`, `block1` ... `blockK`, `embedding`; `preact1` ... `preactK` for the
    stages before their last activation; for attention weights `attention.block1` ..., which Signals keep
    as `attention["block1"]`, and for the values that they mix `value.block1` ..., kept under that name.
    path: of the submodule whose output is read; of: or whose first input (of its last call, where it is
    called more than once). layout: map (N, C, H, W), tokens (N, T, D), vector (N, D) (a map is averaged
    over its places), attention (N, heads, T, T) weights, or values (N, heads, T, D / heads).
    channels_last: the model itself has the map as (N, H, W, C), as Swin does.
    """

    name: str
    path: str
    layout: Layout = "map"
    of: Literal["output", "input"] = "output"
    channels_last: bool = False


class Reader:
    """A model with an ear at some of its taps: call it with a batch and get Signals.

    The hooks stand from construction to `close()` (or the end of a `with` block), and record only during a
    call of the reader itself, so that the model can be used directly at the same time. Maps, tokens and
    attention weights are recorded on the path from the inputs to the logits, so that the logits have
    gradients with respect to them; a vector may be a pooled copy.
    """

    def __init__(self, model: nn.Module, taps: Iterable[Tap]) -> None:
        self.model = model
        self.taps = tuple(taps)
        self._seen: dict[Tap, Tensor] | None = None
        modules = dict(model.named_modules())
        for tap in self.taps:
            if tap.path not in modules:
                raise KdError(
                    f"tap '{tap.name}': the model has no part '{tap.path}'{did_you_mean(tap.path, modules)}"
                )
        for module in modules.values():
            if getattr(module, "inplace", False) is True:
                module.inplace = False
        linear = [module for module in modules.values() if isinstance(module, nn.Linear)]
        self._last = linear[-1] if linear else None
        self._hooks = [self._listen(modules[tap.path], tap) for tap in self.taps]

    def __call__(self, inputs: Tensor, samples: Tensor | None = None) -> Signals:
        """What the model says of inputs (N, 3, H, W). samples: see Signals."""
        seen: dict[Tap, Tensor] = {}
        self._seen = seen
        try:
            logits = self.model(inputs)
        finally:
            self._seen = None
        if silent := [f"'{tap.name}' ({tap.path})" for tap in self.taps if tap not in seen]:
            raise KdError(f"nothing was heard at {', '.join(silent)}: the model's forward does not call it")
        maps = {tap.name: seen[tap] for tap in self.taps if tap.layout != "attention"}
        attention = {
            tap.name.removeprefix(ATTENTION): seen[tap] for tap in self.taps if tap.layout == "attention"
        }
        return Signals(logits, maps, attention, self.classifier, samples)

    @property
    def classifier(self) -> Classifier | None:
        """The model's last linear layer, where it has one."""
        return None if self._last is None else Classifier(self._last.weight, self._last.bias)

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

    def _listen(self, module: nn.Module, tap: Tap) -> Any:
        def record(tensor: Tensor) -> Tensor | None:
            """Keep what was heard; returns what the model should go on with, where that is not `tensor`
            itself."""
            assert self._seen is not None
            if tap.channels_last:
                self._seen[tap] = heard = tensor.permute(0, 3, 1, 2)
                return heard.permute(0, 2, 3, 1)
            pool = tap.layout == "vector" and tensor.dim() == 4
            self._seen[tap] = tensor.mean((2, 3)) if pool else tensor
            return None

        def after(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            if self._seen is None:
                return None
            if not isinstance(output, tuple):
                return record(output)
            replaced = record(output[0])
            return None if replaced is None else (replaced, *output[1:])

        def before(_module: nn.Module, inputs: tuple[Any, ...]) -> Any:
            if self._seen is None:
                return None
            replaced = record(inputs[0])
            return None if replaced is None else (replaced, *inputs[1:])

        if tap.of == "input":
            return module.register_forward_pre_hook(before)
        return module.register_forward_hook(after)


def measure(model: nn.Module, taps: Mapping[str, Tap], size: int, channels: int = 3) -> Shapes:
    """The shapes of all taps, by one forward of zeros in eval mode: no statistic, no mode, no generator is
    changed."""
    modes = {module: module.training for module in model.modules()}
    device = next(model.parameters()).device
    try:
        model.eval()
        with torch.no_grad(), Reader(model, taps.values()) as reader:
            return reader(torch.zeros(2, channels, size, size, device=device)).shapes()
    finally:
        for module, training in modes.items():
            module.training = training
