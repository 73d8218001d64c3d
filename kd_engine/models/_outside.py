"""What models from other packages share: their taps, found by one dry forward, and what to tell about sizes.

Nothing is computed in that forward, and neither mode, BatchNorm statistics nor generators change.

Networks that give maps: `stem` is the first convolution with its norm and activation; then a stage is the
last block or activation at each resolution, pooling aside. Others: `block1` ... are the outermost parts of
one kind that give tokens (N, T, D) one after the other. `embedding` is what the class head takes in.
Sharp edge: an activation that is no module is not heard, so a stage may be read before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kd_engine.errors import KdError
from kd_engine.models import dry_run
from kd_engine.taps import Tap

DRY_SIZE = 256  # pixels: large enough for every network, and all stages differ in resolution
SIZES = (16, 28, 32, 48, 64, 75, 96, 112, 128, 160, 192, 224, 256, 299)  # what the way out suggests
POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.GELU)
Shape = tuple[int, ...]


def discover(module: nn.Module, head: str, size: int = DRY_SIZE) -> tuple[Tap, ...]:
    """Taps of `module`, whose class head is at `head`, found with an image of `size` × `size` pixels.

    Stages where it has any, else blocks; and `embedding`.
    """
    embedding = Tap("embedding", head, "vector", of="input")
    shapes = {path: shape for path, shape in _outputs(module, size).items() if shape[:1] == (1,)}  # one image
    maps = {path: shape for path, shape in shapes.items() if len(shape) == 4}
    stages = _stages(module, head, maps)
    if len(stages) > 1:
        last = {path for path in stages if maps[path][2] != maps[path][3]}  # the image is square
        return (*named(stages, last), embedding)
    blocks = _blocks(module, {path: shape for path, shape in shapes.items() if len(shape) == 3})
    return (*(Tap(f"block{k}", path, "tokens") for k, path in enumerate(blocks, 1)), embedding)


def named(paths: list[str], channels_last: set[str] | frozenset[str] = frozenset()) -> list[Tap]:
    """The stem and the stages at these places; channels_last: those whose maps are (N, H, W, C)."""
    return [
        Tap(f"stage{k}" if k else "stem", path, channels_last=path in channels_last)
        for k, path in enumerate(paths)
    ]


def misfit(model: str, size: int, error: Exception, build: Callable[[int], nn.Module]) -> KdError:
    """What to tell about images of a wrong size, with the next size that works; build: the model for a
    size."""
    reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    fitting = next((other for other in SIZES if other > size and _fits(build, other)), None)
    way_out = f"It takes {fitting}×{fitting}; or choose another model." if fitting else ""
    return KdError(f"{model} cannot take {size}×{size} images ({reason}).", way_out)


def _fits(build: Callable[[int], nn.Module], size: int) -> bool:
    """Whether it can take such images, tried without memory and without random numbers."""
    try:
        with torch.device("meta"):
            dry_run(build(size), size)
    except (RuntimeError, ValueError, AssertionError):
        return False
    return True


def _outputs(module: nn.Module, size: int) -> dict[str, Shape]:
    """The shape that every submodule gives, in the order in which a dry forward completes them."""
    shapes: dict[str, Shape] = {}

    def note(path: str) -> Any:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor):
                shapes[path] = tuple(output.shape)

        return hook

    hooks = [part.register_forward_hook(note(path)) for path, part in module.named_modules() if path]
    try:
        dry_run(module, size)
    finally:
        for hook in hooks:
            hook.remove()
    return shapes


def _stages(module: nn.Module, head: str, maps: Mapping[str, Shape]) -> list[str]:
    """Paths of the stem and of the stages of a convolutional network, in order."""
    sizes = {path: shape[2] for path, shape in maps.items()}
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
        if _is_pool(unit, size, min(stages, default=size)):
            if size == 1:
                break  # what follows is the head's
            continue
        if isinstance(unit, nn.Dropout):
            continue
        if size not in stages or _is_block(unit) or not _is_block(module.get_submodule(stages[size])):
            stages[size] = path
    return [units[stem], *stages.values()]


def _units(module: nn.Module, path: str, sizes: Mapping[str, int]) -> Iterator[str]:
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


def _blocks(module: nn.Module, tokens: Mapping[str, Shape]) -> list[str]:
    """Paths of the blocks of a transformer, in order: of the parts that give tokens and lie in no other such
    part, the kind that there is most of, if there are several."""
    parts = {path: module.get_submodule(path) for path in tokens}
    kinds = Counter(type(part) for part in parts.values())
    repeated = [path for path, part in parts.items() if kinds[type(part)] > 1]
    outermost = [path for path in repeated if not any(path.startswith(f"{other}.") for other in repeated)]
    most = Counter(type(parts[path]) for path in outermost).most_common(1)
    if not most or most[0][1] == 1:
        return []
    return [path for path in outermost if type(parts[path]) is most[0][0]]


def _convolutions(unit: nn.Module) -> int:
    return sum(isinstance(part, (nn.Conv2d, nn.Linear)) for part in unit.modules())


def _is_finish(unit: nn.Module) -> bool:
    """Whether it belongs to the convolution before it: a norm or an activation."""
    return not _convolutions(unit) and not isinstance(unit, (*POOLS, nn.Dropout))


def _is_pool(unit: nn.Module, size: int, before: int) -> bool:
    """Whether it only averages or picks: pooling by any name has no parameters and shrinks the map."""
    return isinstance(unit, POOLS) or (size < before and not any(True for _ in unit.parameters()))


def _is_block(unit: nn.Module) -> bool:
    """Whether a stage may end here: an activation, or several convolutions."""
    last = list(unit.modules())[-1]
    return isinstance(last, ACTIVATIONS) or _convolutions(unit) > 1
