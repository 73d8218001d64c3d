"""Grad-CAM: which places at a tap speak for a class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kd_engine.errors import KdError
from kd_engine.knobs import Knobs, knob
from kd_engine.probes import Look, Probe, on_grid, places, read, to_heat
from kd_engine.taps import Tap


class GradCamKnobs(Knobs):
    target: int | None = knob(
        None,
        "The class to explain, counted from 0. Empty: the one that each model predicts.",
        label="Class",
        low=0,
    )


class GradCam(Probe):
    """heat = max(0, Σ_c α_c f_c), α_c the mean over places of the gradient of the class's logit with respect
    to f_c.

    For tokens (N, T, D) the patches are laid out as a map first. A transformer that reads its class token
    gives the last block's patches no gradient, so "auto" takes the block before. All zero: nothing there
    speaks for the class.
    """

    name: ClassVar[str] = "grad-cam"
    title: ClassVar[str] = "Grad-CAM"
    help: ClassVar[str] = "Which places speak for the predicted class (or the one you name)."
    source: ClassVar[str] = "Selvaraju et al.: Grad-CAM, ICCV 2017. arXiv:1610.02391"
    Knobs: ClassVar[type[Knobs]] = GradCamKnobs

    @classmethod
    def taps(cls, taps: Mapping[str, Tap]) -> tuple[str, ...]:
        maps, tokens = places(taps, "map"), places(taps, "tokens")
        return (*maps, *tokens[1:], *tokens[:1])

    @classmethod
    def look(cls, model: nn.Module, taps: Mapping[str, Tap], tap: str, image: Tensor, knobs: Any) -> Look:
        # The image asks for a gradient, so that the tap has one even where all weights are frozen.
        with torch.inference_mode(False), torch.enable_grad():
            seen, logits = read(model, taps[tap], image.detach().clone().requires_grad_())
            target = _target(logits, knobs.target)
            (grad,) = torch.autograd.grad(logits[0, target], seen, allow_unused=True)
        if grad is None:
            raise KdError(f"tap '{tap}' has no say in the logits.", "Choose another one.")
        strength = _cam(seen.detach(), grad, image, tap, taps[tap])
        confidence = float(logits.detach()[0].float().softmax(-1)[target])
        numbers = {"class": float(target), "confidence": confidence}
        return Look({"heat": to_heat(strength, image)}, numbers, tuple(seen.shape[1:]))


def _target(logits: Tensor, wanted: int | None) -> int:
    if wanted is None:
        return int(logits[0].argmax())
    if wanted >= logits.shape[-1]:
        raise KdError(f"target: got {wanted}, expected 0 to {logits.shape[-1] - 1}, the model's classes.")
    return wanted


def _cam(seen: Tensor, grad: Tensor, image: Tensor, name: str, tap: Tap) -> Tensor:
    if tap.layout == "tokens":
        seen, slope = on_grid(seen, image), on_grid(grad, image)
        if not slope.any() and grad.any():
            raise KdError(
                f"tap '{name}': after it only the class token reaches the logits.", "Choose an earlier block."
            )
        grad = slope
    weights = grad.float().mean((2, 3), keepdim=True)
    return (weights * seen.float()).sum(1).relu()[0]
