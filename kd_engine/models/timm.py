"""More than a thousand architectures of the timm package, by name: `timm:resnet18`. An optional extra.

Built for the size of the data where a network has a fixed size. Taps are found by one dry forward, see
`kd_engine.models._outside`; timm computes attention weights in one fused step, so they cannot be heard.
Published weights (`timm`) come from the hub that timm names, in files that cannot run code.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from kd_engine._torchvision import import_torchvision
from kd_engine.errors import KdError, WeightsError, did_you_mean
from kd_engine.models import Architecture, classifier, dry_run
from kd_engine.models._outside import DRY_SIZE, discover, misfit
from kd_engine.taps import Tap

PREFIX = "timm:"
SIZE = "kd_size"  # the attribute that keeps which images a module was built for, in pixels
INSTALL = "pip install kd-studio[timm]"
SMALL = (  # what the catalog lists, of many
    "convnext_atto",
    "deit_tiny_patch16_224",
    "efficientnet_b0",
    "ghostnet_100",
    "mobilenetv3_small_100",
    "regnetx_002",
    "resnet10t",
    "resnet18",
    "swin_tiny_patch4_window7_224",
    "vit_tiny_patch16_224",
)


class TimmFamily(Architecture):
    name = "timm"
    title = "timm"
    help = "timm:NAME, any network of PyTorch Image Models; a few small ones are listed."
    source = "https://huggingface.co/docs/timm"
    caution = "Made for 224 pixels: on small images their first layers throw most of the resolution away."
    published = "timm"
    names = tuple(PREFIX + model for model in SMALL)
    pattern = rf"{PREFIX}[\w.]+"  # no slash and no colon: names of the hub would download code's settings

    @classmethod
    def unavailable(cls) -> str | None:
        return None if importlib.util.find_spec("timm") else f"timm is not installed ({INSTALL})"

    @classmethod
    def build(cls, model: str, classes: int, size: int, knobs: object) -> nn.Module:
        _demand_known(model)
        try:
            module = _build(model, classes, size)
            dry_run(module, size)
        except (RuntimeError, ValueError, AssertionError) as error:
            raise misfit(model, size, error, partial(_build, model, classes)) from error
        setattr(module, SIZE, size)
        return module

    @classmethod
    def pretrained(cls, model: str, module: nn.Module) -> Mapping[str, Tensor]:
        try:
            published = _create(model, getattr(module, SIZE), pretrained=True)
        except Exception as error:  # of the hub's client, of the network, of torch: many kinds
            reason = (str(error).splitlines() or [""])[0].rstrip(".")
            repository = getattr(_timm().get_pretrained_cfg(_name(model)), "hf_hub_id", None)
            place = f"https://huggingface.co/{repository}"
            raise WeightsError(
                f"no published weights for {model} could be had ({type(error).__name__}: {reason}).",
                f"Fetch them elsewhere ({place}) and give the file as the weights." if repository else "",
            ) from error
        return dict(published.state_dict())

    @classmethod
    def taps(cls, model: str, module: nn.Module) -> tuple[Tap, ...]:
        size = getattr(module, SIZE) if _has_fixed_size(model) else DRY_SIZE
        return discover(module, classifier(module), size)


def _timm() -> Any:
    import_torchvision()  # timm imports it, which needs help beside some builds of torch
    return importlib.import_module("timm")


def _name(model: str) -> str:
    return model.removeprefix(PREFIX)


def _demand_known(model: str) -> None:
    timm, name = _timm(), _name(model)
    if not timm.is_model(name):
        raise KdError(f"timm has no model '{name}'{did_you_mean(name, timm.list_models())}.")


def _has_fixed_size(model: str) -> bool:
    """Whether it is built for one image size, as most transformers are."""
    config = _timm().get_pretrained_cfg(_name(model))
    return bool(config and config.fixed_input_size)


def _build(model: str, classes: int, size: int) -> nn.Module:
    return _create(model, size, num_classes=classes)


def _create(model: str, size: int, **settings: Any) -> nn.Module:
    fixed = {"img_size": size} if _has_fixed_size(model) else {}
    try:
        module: nn.Module = _timm().create_model(_name(model), **fixed, **settings)
    except TypeError:  # a few have a size of their own and take no other
        if not fixed:
            raise
        module = _timm().create_model(_name(model), **settings)
    return module
