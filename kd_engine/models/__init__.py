"""Model architectures, one family a file. A family builds models by name and declares their taps; it rewrites nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn

from kd_engine.errors import KdError, did_you_mean
from kd_engine.registry import Plugin, discover
from kd_engine.taps import Tap


class Architecture(Plugin):
    """One family of models, e.g. `resnet` with resnet8 ... resnet110.

    All models take float inputs (N, 3, H, W), already normalised, and answer logits (N, classes).
    """

    names: ClassVar[tuple[str, ...]] = ()  # the models that the catalog lists; `accepts` may allow more

    @classmethod
    def accepts(cls, model: str) -> bool:
        """Whether this family builds a model of that name."""
        return model in cls.names

    @classmethod
    def build(cls, model: str, classes: int, size: int, knobs: Any) -> nn.Module:
        """A fresh model with random weights from torch's global generator. `size`: height and width of the inputs,
        in pixels; `knobs`: an instance of `cls.Knobs`. KdError when the model cannot take such inputs."""
        raise NotImplementedError(cls)

    @classmethod
    def taps(cls, model: str, module: nn.Module) -> tuple[Tap, ...]:
        """The places to read from in `module`, in the order of the forward pass (see kd_engine.taps)."""
        raise NotImplementedError(cls)

    @classmethod
    def facts(cls) -> dict[str, Any]:
        return {"models": list(cls.names)}


Base = Architecture


def family_of(model: str) -> type[Architecture]:
    """The family that builds `model`. KdError, with a suggestion, when there is none or when it is unavailable."""
    families: list[type[Architecture]] = list(discover("models").plugins.values())  # type: ignore[arg-type]
    for family in families:
        if family.accepts(model):
            if (why := family.unavailable()) is not None:
                raise KdError(f"model '{model}' is unavailable: {why}")
            return family
    raise KdError(f"no model '{model}'{did_you_mean(model, [name for f in families for name in f.names])}")


def create(model: str, classes: int, size: int = 32, **knobs: Any) -> nn.Module:
    """A fresh model by name, e.g. `create("resnet20", classes=10, shortcut="A")`."""
    family = family_of(model)
    return family.build(model, classes, size, family.Knobs(**knobs))


def taps_of(model: str, module: nn.Module) -> Mapping[str, Tap]:
    """The declared taps of a model that `create` built, by name."""
    return {tap.name: tap for tap in family_of(model).taps(model, module)}
