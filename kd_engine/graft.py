"""A student that keeps its teacher's last layer: its own body, a projector in the teacher's shape, the
teacher's classifier. Made for a run, and made again from what a file's card says.

The projector stands behind the student's last map and the classifier in place of its own; what else lay
between them, such as MobileNetV2's last convolution, is skipped, as in SimKD's code. The student's forward is
what it was. In the end the classifier must be given the mean of the projected map, as in the teacher that of
its own last map: whether it is so is looked up in the numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from kd_engine.errors import KdError, WeightsError
from kd_engine.models import classifier
from kd_engine.signals import Signals
from kd_engine.taps import PROJECTED, Reader, Tap, measure
from kd_engine.teacher import LiveTeacher, Model

KEY = "graft"  # of the description in a model card
HARMLESS = (nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.Flatten, nn.Dropout, nn.Identity, nn.ReLU)


@dataclass(frozen=True)
class Graft:
    """What was changed in a student, in plain values.

    stage, classifier: paths, of the part that gives its last map and of its last layer; skipped: of parts
    between them that do nothing any more. channels: of the last map; width: of the teacher's, which the
    projector gives and the classifier takes. size: height and width that the map is averaged to first, where
    the teacher's is smaller. factor: how many times narrower than `width` the projector is inside.
    """

    stage: str
    classifier: str
    skipped: tuple[str, ...]
    channels: int
    width: int
    size: tuple[int, int] | None
    factor: int
    classes: int
    bias: bool


class Projected(nn.Module):
    """A student's last stage, and behind it the projector."""

    def __init__(self, stage: nn.Module, graft: Graft) -> None:
        super().__init__()
        self.graft = graft
        self.stage = stage
        self.projector = projector(graft.channels, graft.width, graft.size, graft.factor)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.projector(self.stage(x))
        return out


def projector(
    channels: int,
    width: int,
    size: tuple[int, int] | None,
    factor: int,
    norm: type[nn.BatchNorm2d] = nn.BatchNorm2d,
) -> nn.Sequential:
    """Turns a map (N, channels, H, W), averaged to `size` if that is given, into one of `width` channels.

    SimKD's bottleneck: convolutions 1×1, 3×3, 1×1 with `width / factor` channels inside, each with BatchNorm
    and ReLU. Chen et al. 2022; reading of github.com/DefangChen/SimKD.
    """
    inside = max(1, width // factor)
    return nn.Sequential(
        *([nn.AdaptiveAvgPool2d(size)] if size else []),
        *_unit(channels, inside, 1, norm),
        *_unit(inside, inside, 3, norm),
        *_unit(inside, width, 1, norm),
    )


def common_size(student: tuple[int, ...], teacher: tuple[int, ...]) -> tuple[int, int] | None:
    """What a student's map (C, H, W) is averaged to, so that no side is longer than the teacher's; None: it
    stays."""
    size = (min(student[1], teacher[1]), min(student[2], teacher[2]))
    return None if size == student[1:] else size


def grafted(student: Model, teacher: Model | LiveTeacher, factor: int, size: int) -> Model:
    """`student` with the classifier of `teacher`, which learns no more, and a fresh projector.

    Changes `student.module` itself; draws from torch's global generator. size: of the inputs, in pixels.
    KdError when one of the two is not built for it; the module is then of no use.
    """
    if why := _lacks(student, "student") + _lacks(teacher, "teacher"):
        raise _refusal("; ".join(why))
    ours, theirs = _last_map(student), _last_map(teacher)
    source = classifier(teacher.module)
    if not _gives_mean(teacher.module, teacher.taps[theirs].path, source, size):
        raise _refusal(f"it is not the mean of its {theirs} that the teacher classifies")
    last = teacher.module.get_submodule(source)
    assert isinstance(last, nn.Linear)
    path, head = student.taps[ours].path, classifier(student.module)
    graft = Graft(
        stage=path,
        classifier=head,
        skipped=_between(student.module, path, head, size),
        channels=student.shapes.taps[ours][0],
        width=last.in_features,
        size=common_size(student.shapes.taps[ours], teacher.shapes.taps[theirs]),
        factor=factor,
        classes=last.out_features,
        bias=last.bias is not None,
    )
    _attach(student.module, graft)
    student.module.get_submodule(head).load_state_dict(last.state_dict())
    student.module.to(last.weight.device)
    if not _gives_mean(student.module, f"{path}.projector", head, size):
        raise _refusal(f"what the student does between its {ours} and its classifier cannot be skipped")
    taps = moved(student.taps, graft)
    shapes = replace(measure(student.module, taps, size), samples=student.shapes.samples)
    return replace(student, taps=taps, shapes=shapes)


def rebuild(module: nn.Module, card: Mapping[str, Any] | None) -> Graft | None:
    """Change a fresh `module` as the model whose card this is was changed; None, and nothing done, where it
    was not. WeightsError when the card says what cannot be."""
    told = (card or {}).get(KEY)
    if told is None:
        return None
    try:
        graft = _read(told)
        _attach(module, graft)
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise WeightsError(f"its card says of a graft what cannot be: {error}.") from error
    return graft


def described(module: nn.Module) -> dict[str, Any]:
    """What a card must say of a graft, under its key; nothing for a model without one."""
    grafts = [part.graft for part in module.modules() if isinstance(part, Projected)]
    return {KEY: asdict(grafts[0])} if grafts else {}


def moved(taps: Mapping[str, Tap], graft: Graft) -> dict[str, Tap]:
    """A student's taps where they are once it was grafted, and the projected map as `projected`."""
    inside = f"{graft.stage}."
    found = {}
    for name, tap in taps.items():
        ours = tap.path == graft.stage or tap.path.startswith(inside)
        path = f"{inside}stage{tap.path.removeprefix(graft.stage)}" if ours else tap.path
        found[name] = replace(tap, path=path)
        if tap.path == graft.stage and tap.of == "output":
            found[PROJECTED] = Tap(PROJECTED, graft.stage)
    return found


def _refusal(why: str) -> KdError:
    return KdError(f"the teacher's classifier cannot be put on the student: {why}.", "Choose other models.")


def _lacks(model: Model | LiveTeacher, who: str) -> list[str]:
    """What a model must have, and this has not."""
    if PROJECTED in model.taps:
        return [f"the {who}'s weights carry a teacher's classifier already"]
    name = _last_map(model)
    if not name or not model.shapes.classifier:
        return [f"the {who} has no last map before a linear layer"]
    tap = model.taps[name]
    if tap.of == "input" or tap.channels_last:
        return [f"the {who}'s {name} is not what one of its parts gives"]
    return []


def _gives_mean(module: nn.Module, stage: str, head: str, size: int) -> bool:
    """Whether the layer `head` is given the mean over places of what `stage`, called once, gives."""
    taps = (Tap("map", stage), Tap("given", head, "vector", of="input"))
    try:
        with Reader(module, taps) as reader:
            said, order = _tried(reader, size)
    except (RuntimeError, KdError):  # parts that do not fit together, or are not called
        return False
    mean, given = said.taps["map"].mean((2, 3)), said.taps["given"]
    if order.count(stage) != 1 or mean.shape != given.shape:
        return False
    return bool((mean - given).abs().max() < 1e-3 * mean.abs().max())


def _between(module: nn.Module, stage: str, head: str, size: int) -> tuple[str, ...]:
    """The parts that come after `stage` and before `head` and do more than average, flatten, drop out and,
    because a projected map is not negative, cut below zero."""
    with Reader(module, ()) as reader:
        _, order = _tried(reader, size)
    after = order[order.index(stage) + 1 : order.index(head)]
    parts = dict(module.named_modules())
    return tuple(
        path
        for path in after
        if not any(parts[path].children())
        and not isinstance(parts[path], HARMLESS)
        and order.count(path) == 1
    )


def _tried(reader: Reader, size: int) -> tuple[Signals, list[str]]:
    """What a model says of two random images, in eval mode, and the paths of its parts in the order in which
    they finished."""
    module = reader.model
    modes = [(part, part.training) for part in module.modules()]
    device = next(module.parameters()).device
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    order: list[str] = []
    hooks = [
        part.register_forward_hook(lambda *_, path=path: order.append(path))
        for path, part in module.named_modules()
    ]
    try:
        module.eval()
        with torch.no_grad():
            return reader(images), order
    finally:
        for hook in hooks:
            hook.remove()
        for part, training in modes:
            part.training = training


def _attach(module: nn.Module, graft: Graft) -> None:
    """Put an empty projector and classifier in, and what does nothing in place of what is skipped."""
    for path in graft.skipped:
        _put(module, path, nn.Identity())
    _put(module, graft.stage, Projected(module.get_submodule(graft.stage), graft))
    _put(module, graft.classifier, nn.Linear(graft.width, graft.classes, graft.bias).requires_grad_(False))


def _put(module: nn.Module, path: str, part: nn.Module) -> None:
    where, _, name = path.rpartition(".")
    setattr(module.get_submodule(where), name, part)


def _read(told: Any) -> Graft:
    """ValueError, TypeError or LookupError for what does not describe a graft."""
    size = None if told["size"] is None else tuple(told["size"])
    graft = Graft(**{**told, "size": size, "skipped": tuple(told["skipped"])})
    paths = (graft.stage, graft.classifier, *graft.skipped)
    counts = (graft.channels, graft.width, graft.factor, graft.classes, *(size or ()))
    right = all(isinstance(path, str) and path for path in paths)
    right = right and all(type(count) is int and 0 < count <= 65_536 for count in counts)
    if not right or (size is not None and len(size) != 2) or type(graft.bias) is not bool:
        raise ValueError(str(told))
    return graft


def _last_map(model: Model | LiveTeacher) -> str:
    """The name of the last stage's tap; empty where it is no map."""
    stages = [name for name in model.taps if name.startswith("stage")]
    return stages[-1] if stages and len(model.shapes.taps[stages[-1]]) == 3 else ""


def _unit(inputs: int, outputs: int, kernel: int, norm: type[nn.BatchNorm2d]) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return conv, norm(outputs), nn.ReLU()
