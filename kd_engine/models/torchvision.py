"""Every classification network of torchvision, with its class head fitted and its taps found by one dry
forward.

Convolutional networks: see `kd_engine.models._outside`. Swin and MaxViT: their four stages, as maps. ViT: its
blocks, as tokens (torchvision computes neither its attention weights nor its values openly, so they cannot be
heard). A few plain VGGs share their names with networks for small images, and are called `torchvision:vgg13`
and so on. Sharp edge: DenseNet's very last ReLU is no module; its last stage is read before the norm that
precedes it.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kd_engine._torchvision import import_torchvision
from kd_engine.errors import WeightsError
from kd_engine.models import Architecture, classifier, dry_run
from kd_engine.models._outside import discover, misfit, named
from kd_engine.taps import Tap

AUXILIARY = ("googlenet", "inception_v3")  # have further heads, which serve training from scratch only
AUXILIARY_HEADS = ("aux1.", "aux2.", "AuxLogits.")
PREFIX = "torchvision:"
TAKEN = ("vgg11", "vgg13", "vgg16", "vgg19")  # names of networks for small images: these need the prefix
BUILDER = re.compile(r"^@register_model\((?:name=)?(?:\"(\w+)\")?\)\s*\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)


@cache
def listed() -> tuple[str, ...]:
    """The names of all classification networks, read from torchvision's sources: importing it takes a
    second."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        return ()
    names = []
    for file in (Path(spec.submodule_search_locations[0]) / "models").glob("*.py"):
        names += [name or function for name, function in BUILDER.findall(file.read_text(encoding="utf-8"))]
    return tuple(sorted(names))


class TorchvisionFamily(Architecture):
    name = "torchvision"
    title = "torchvision"
    help = "The classification networks of torchvision, built for large photographs."
    source = "https://docs.pytorch.org/vision/stable/models.html"
    caution = "Made for 224 pixels: on small images their first layers throw most of the resolution away."
    published = "torchvision"
    names = tuple(f"{PREFIX}{model}" if model in TAKEN else model for model in listed())

    @classmethod
    def unavailable(cls) -> str | None:
        return None if cls.names else "torchvision is not installed (pip install torchvision)"

    @classmethod
    def build(cls, model: str, classes: int, size: int, knobs: object) -> nn.Module:
        try:
            module = _build(model, classes, size)
        except (ValueError, AssertionError) as error:  # ViT and MaxViT are built for one size
            raise misfit(model, size, error, partial(_build, model, classes)) from error
        try:
            dry_run(module, size)
        except RuntimeError as error:
            raise misfit(model, size, error, partial(_build, model, classes)) from error
        return module

    @classmethod
    def pretrained(cls, model: str, module: nn.Module) -> Mapping[str, Tensor]:
        models = import_torchvision().models
        model = model.removeprefix(PREFIX)
        choices = models.get_model_weights(model)
        chosen = getattr(choices, "DEFAULT", None) or next(iter(choices))
        file = _fetch(chosen.url)
        try:  # torchvision's own reading would run code in the file
            torch.load(file, map_location="cpu", weights_only=True)
            published = models.get_model(model, weights=chosen, progress=False).state_dict()
        except Exception as error:  # torch raises many kinds for a file that is not a checkpoint
            raise WeightsError(
                f"{file}: not the checkpoint it should be ({type(error).__name__}).",
                "Delete it and try again.",
            ) from error
        if isinstance(module, models.VisionTransformer):
            resize = models.vision_transformer.interpolate_embeddings
            return dict(resize(module.image_size, module.patch_size, published))
        return {name: tensor for name, tensor in published.items() if not name.startswith(AUXILIARY_HEADS)}

    @classmethod
    def taps(cls, model: str, module: nn.Module) -> tuple[Tap, ...]:
        embedding = Tap("embedding", classifier(module), "vector", of="input")
        models = import_torchvision().models
        if isinstance(module, models.VisionTransformer):
            layers = dict(module.encoder.layers.named_children())
            blocks = [
                Tap(f"block{k}", f"encoder.layers.{name}", "tokens") for k, name in enumerate(layers, 1)
            ]
            return (*blocks, embedding)
        if isinstance(module, models.SwinTransformer):
            stages = [f"features.{index}" for index in (0, 1, 3, 5, 7)]  # between them the patches are merged
            return (*named(stages, channels_last=set(stages)), embedding)
        if isinstance(module, models.MaxVit):
            return (*named(["stem", *(f"blocks.{k}" for k in range(len(module.blocks)))]), embedding)
        return discover(module, embedding.path)


def _fetch(url: str) -> Path:
    """The file behind `url`, in torch's own cache, downloaded if need be."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if file.is_file():
        return file
    digest = re.search(r"-([0-9a-f]{8,})\.", file.name)  # torchvision puts the hash's beginning into the name
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), digest[1] if digest else None, progress=False)
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"cannot download {url} ({error}).", f"Fetch it elsewhere and put it here: {file}"
        ) from error
    return file


def _build(model: str, classes: int, size: int) -> nn.Module:
    models = import_torchvision().models
    model = model.removeprefix(PREFIX)
    builder = models.get_model_builder(model)
    wanted: dict[str, Any] = {"num_classes": classes}
    if model.startswith("vit_"):
        wanted["image_size"] = size
    elif model.startswith("maxvit_"):
        wanted["input_size"] = (size, size)
    elif model in AUXILIARY:  # transform_input: from the usual normalisation to theirs
        wanted |= {"aux_logits": False, "transform_input": True, "init_weights": True}
    module: nn.Module = builder(weights=None, **wanted)
    return module
