"""Model architectures, one family a file. A family builds models by name and declares their taps; it rewrites
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from kd_engine.errors import KdError, RecipeError, WeightsError, did_you_mean
from kd_engine.knobs import Knobs, check_knobs, knobs_of
from kd_engine.registry import Plugin, discover
from kd_engine.taps import PREACT, Tap


class Architecture(Plugin):
    """One family of models, e.g. `resnet` with resnet8 ... resnet110.

    All models take float inputs (N, 3, H, W), already normalised, and answer logits (N, classes). Weights
    are found by the names in the state dict; the last linear layer (without one: the last convolution)
    gives the classes.
    """

    Knobs: ClassVar[type[Knobs]] = Knobs
    names: ClassVar[tuple[str, ...]] = ()  # the models that the catalog lists
    pattern: ClassVar[str] = ""  # a regular expression for more names that it builds, as in wrn_16_3
    published: ClassVar[str] = ""  # what a recipe calls the weights that `pretrained` gives, e.g. torchvision

    @classmethod
    def accepts(cls, model: str) -> bool:
        """Whether this family builds a model of that name."""
        return model in cls.names or bool(cls.pattern and re.fullmatch(cls.pattern, model))

    @classmethod
    def build(cls, model: str, classes: int, size: int, knobs: Any) -> nn.Module:
        """A fresh model with random weights from torch's global generator. `size`: height and width of the
        inputs, in pixels; `knobs`: an instance of `cls.Knobs`. KdError when the model cannot take such
        inputs."""
        raise NotImplementedError(cls)

    @classmethod
    def taps(cls, model: str, module: nn.Module) -> tuple[Tap, ...]:
        """The places to read from in `module`, in the order of the forward pass (see kd_engine.taps)."""
        raise NotImplementedError(cls)

    @classmethod
    def pretrained(cls, model: str, module: nn.Module) -> Mapping[str, Tensor]:
        """Published weights for `module`, under its names and in its shapes, but with the classes they were
        trained on. WeightsError when there are none, or when they cannot be had."""
        raise WeightsError(
            f"there are no published weights for {model}.",
            "Weights by the name of torchvision or timm exist for their own networks only.",
        )

    @classmethod
    def facts(cls) -> dict[str, Any]:
        return {"models": list(cls.names), "pattern": cls.pattern, "published": cls.published}


Base = Architecture


def family_of(model: str) -> type[Architecture]:
    """The family that builds `model`. KdError, with a suggestion, when there is none or when it is
    unavailable."""
    families: list[type[Architecture]] = list(discover("models").plugins.values())  # type: ignore[arg-type]
    for family in families:
        if family.accepts(model):
            if (why := family.unavailable()) is not None:
                raise KdError(f"model '{model}' is unavailable: {why}")
            return family
    raise KdError(f"no model '{model}'{did_you_mean(model, [name for f in families for name in f.names])}")


def create(model: str, classes: int, size: int = 32, **knobs: Any) -> nn.Module:
    """A fresh model by name, e.g. `create("resnet20", classes=10, shortcut="A")`. RecipeError for wrong
    knobs."""
    family = family_of(model)
    if problems := check_knobs(knobs_of(family.Knobs), knobs, model):
        raise RecipeError(problems)
    return family.build(model, classes, size, family.Knobs(**knobs))


def taps_of(model: str, module: nn.Module) -> Mapping[str, Tap]:
    """The declared taps of a model that `create` built, by name."""
    return {tap.name: tap for tap in family_of(model).taps(model, module)}


def stage_taps(stages: Iterable[tuple[str, str | None]]) -> Iterator[Tap]:
    """`preact1`, `stage1`, `preact2` ...: every stage before and after its last activation.

    stages: for each the path that gives its output, and that of its last activation (None: it ends without
    one, and both are its output).
    """
    for k, (path, activation) in enumerate(stages, 1):
        yield Tap(f"{PREACT}{k}", path) if activation is None else Tap(f"{PREACT}{k}", activation, of="input")
        yield Tap(f"stage{k}", path)


def classifier(module: nn.Module) -> str:
    """The path of the layer that gives the classes: the last linear layer, or without one the last
    convolution."""
    for kind in (nn.Linear, nn.Conv2d):
        if paths := [path for path, part in module.named_modules() if isinstance(part, kind)]:
            return str(paths[-1])
    raise KdError("the model has no layer that gives classes: neither a linear nor a convolutional one")


def count_parameters(module: nn.Module) -> int:
    """Trainable or not, each shared one once."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_macs(module: nn.Module, size: int, channels: int = 3) -> int:
    """Multiply-adds of one image of `size` × `size` pixels: convolutions and matrix products, not norms,
    activations or pooling."""
    counter = FlopCounterMode(display=False)
    with counter:
        dry_run(module, size, channels)
    return counter.get_total_flops() // 2


def dry_run(module: nn.Module, size: int, channels: int = 3) -> Tensor:
    """What `module` would answer for one image, as a tensor without data: nothing is computed, and neither
    mode, statistics nor generators change. Raises what the model raises."""
    modes = {part: part.training for part in module.modules()}
    state = {name: tensor.detach() for name, tensor in (*module.named_parameters(), *module.named_buffers())}
    shadows = {name: torch.empty_like(tensor, device="meta") for name, tensor in state.items()}
    try:
        module.eval()
        with torch.no_grad():
            image = torch.empty(1, channels, size, size, device="meta")
            answer: Tensor = functional_call(module, shadows, (image,))
            return answer
    finally:
        for part, training in modes.items():
            part.training = training
