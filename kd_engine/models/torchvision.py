"""Every classification network of torchvision, with its class head fitted and its taps found by one dry
forward.

Convolutional networks: `stem` is the first convolution with its norm and activation; then a stage is the
last block or activation at each resolution, pooling aside. Swin and MaxViT: their four stages, as maps.
ViT: its blocks, as tokens (torchvision never computes its attention weights openly, so they cannot be
heard). `embedding` is what the head takes in. Sharp edge: DenseNet's very last ReLU is no module; its last
stage is read before the norm that precedes it.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kd_engine._torchvision import import_torchvision
from kd_engine.errors import KdError, WeightsError
from kd_engine.models import Architecture, classifier, dry_run
from kd_engine.taps import Tap

DRY_SIZE = 256  # pixels: large enough for every network, and all stages differ in resolution
SIZES = (16, 28, 32, 48, 64, 75, 96, 112, 128, 160, 192, 224, 256, 299)  # what the way out suggests
POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
AUXILIARY = ("googlenet", "inception_v3")  # have further heads, which serve training from scratch only
AUXILIARY_HEADS = ("aux1.", "aux2.", "AuxLogits.")
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.GELU)
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
    names = listed()

    @classmethod
    def unavailable(cls) -> str | None:
        return None if cls.names else "torchvision is not installed (pip install torchvision)"

    @classmethod
    def build(cls, model: str, classes: int, size: int, knobs: object) -> nn.Module:
        try:
            module = _build(model, classes, size)
        except (ValueError, AssertionError) as error:  # ViT and MaxViT are built for one size
            raise _misfit(model, classes, size, error) from error
        try:
            dry_run(module, size)
        except RuntimeError as error:
            raise _misfit(model, classes, size, error) from error
        return module

    @classmethod
    def pretrained(cls, model: str, module: nn.Module) -> Mapping[str, Tensor]:
        models = import_torchvision().models
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
            return (*_named(stages, channels_last=True), embedding)
        if isinstance(module, models.MaxVit):
            return (*_named(["stem", *(f"blocks.{index}" for index in range(len(module.blocks)))]), embedding)
        return (*_named(_stages(module, embedding.path)), embedding)


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


def _misfit(model: str, classes: int, size: int, error: Exception) -> KdError:
    """What to tell about images of a wrong size, with the next size that works."""
    reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    fitting = next((other for other in SIZES if other > size and _fits(model, classes, other)), None)
    way_out = f"It takes {fitting}×{fitting}; or choose another model." if fitting else ""
    return KdError(f"{model} cannot take {size}×{size} images ({reason}).", way_out)


def _fits(model: str, classes: int, size: int) -> bool:
    """Whether `model` can take such images, tried without memory and without random numbers."""
    try:
        with torch.device("meta"):
            dry_run(_build(model, classes, size), size)
    except (RuntimeError, ValueError, AssertionError):
        return False
    return True


def _named(paths: list[str], channels_last: bool = False) -> list[Tap]:
    return [
        Tap(f"stage{k}" if k else "stem", path, channels_last=channels_last) for k, path in enumerate(paths)
    ]


def _stages(module: nn.Module, head: str) -> list[str]:
    """Paths of the stem and of the stages of a convolutional network, in order."""
    sizes = _resolutions(module)
    units = [path for path in _units(module, "", sizes) if path.split(".")[0] != head.split(".")[0]]
    units.sort(key=list(sizes).index)
    stem = next(
        (index for index, path in enumerate(units) if _convolutions(module.get_submodule(path))), None
    )
    if stem is None:
        return []
    while stem + 1 < len(units) and _is_finish(module.get_submodule(units[stem + 1])):
        stem += 1
    stages: dict[int, str] = {}
    for path in units[stem + 1 :]:
        unit, size = module.get_submodule(path), sizes[path]
        if isinstance(unit, (*POOLS, nn.Dropout)):
            continue
        if size not in stages or _is_block(unit) or not _is_block(module.get_submodule(stages[size])):
            stages[size] = path
    return [units[stem], *stages.values()]


def _resolutions(module: nn.Module) -> dict[str, int]:
    """The height of every submodule's map, in the order in which a dry forward completes them."""
    sizes: dict[str, int] = {}

    def note(path: str) -> Any:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.dim() == 4:
                sizes[path] = output.shape[2]

        return hook

    hooks = [part.register_forward_hook(note(path)) for path, part in module.named_modules() if path]
    try:
        dry_run(module, DRY_SIZE)
    finally:
        for hook in hooks:
            hook.remove()
    return sizes


def _units(module: nn.Module, path: str, sizes: dict[str, int]) -> Iterator[str]:
    """The parts that the data flows through one after the other: children, opened where they only chain
    others and change the resolution on the way."""
    for name, child in module.named_children():
        below = f"{path}.{name}".lstrip(".")
        inside = {size for other, size in sizes.items() if other.startswith(below + ".")}
        chain = type(child).forward is nn.Sequential.forward
        if isinstance(child, nn.ModuleList) or (chain and len(inside) > 1):
            yield from _units(child, below, sizes)
        elif below in sizes:
            yield below


def _convolutions(unit: nn.Module) -> int:
    return sum(isinstance(part, (nn.Conv2d, nn.Linear)) for part in unit.modules())


def _is_finish(unit: nn.Module) -> bool:
    """Whether it belongs to the convolution before it: a norm or an activation."""
    return not _convolutions(unit) and not isinstance(unit, (*POOLS, nn.Dropout))


def _is_block(unit: nn.Module) -> bool:
    """Whether a stage may end here: an activation, or several convolutions."""
    last = list(unit.modules())[-1]
    return isinstance(last, ACTIVATIONS) or _convolutions(unit) > 1
