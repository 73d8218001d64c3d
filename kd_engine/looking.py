"""Ask a probe about one image, of several models at once, and leave no trace in them.

A model that was looked at trains on bit for bit as if it had not been: modes, gradients, BatchNorm statistics
and random generators are put back, whatever the probe does.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kd_engine.errors import KdError, did_you_mean
from kd_engine.probes import Look, Probe, share_on_object, similarity, words
from kd_engine.registry import find
from kd_engine.signals import Shapes
from kd_engine.taps import ATTENTION, Tap

Looked = tuple[nn.Module, Mapping[str, Tap]]


def ask(
    probe: str | type[Probe],
    models: Mapping[str, Looked],
    tap: str,
    image: Tensor,
    mask: np.ndarray | None = None,
    knobs: Any = None,
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """What every model (by role, such as "teacher", "student") answers about `image` (3, H, W), normalised.

    tap: see `resolve`. mask: (H, W), true on the object, where that is known. knobs: of the probe, else its
    defaults. Returns arrays: `ROLE` the heat (H, W) float32, 0 to 1 (or the logits (C,)), and `ROLE_tap`, a
    0-d text array that says in words where was looked; and numbers: `ROLE_on_object` with a mask,
    `ROLE_similarity` to the first role's heat for every other role, and the probe's own as `ROLE_NAME`.
    KdError when it cannot look at one of the models.
    """
    plugin: type[Probe] = find("probes", probe) if isinstance(probe, str) else probe
    knobs = plugin.Knobs() if knobs is None else knobs
    arrays: dict[str, np.ndarray] = {}
    numbers: dict[str, float] = {}
    chosen = resolve(plugin, {role: taps for role, (_, taps) in models.items()}, tap)
    for role, (module, taps) in models.items():
        with undisturbed(module) as device:
            look = plugin.look(module, taps, chosen[role], image.to(device), knobs)
        arrays[role] = look.arrays[plugin.kind]
        arrays[f"{role}_tap"] = np.array(_words(plugin, taps, chosen[role], look))
        numbers |= {f"{role}_{name}": value for name, value in look.numbers.items()}
    if plugin.kind == "heat":
        numbers |= _compared({role: arrays[role] for role in models}, mask)
    return arrays, numbers


def resolve(probe: type[Probe], models: Mapping[str, Mapping[str, Tap]], tap: str) -> dict[str, str]:
    """The tap to look through for every role, given the models' taps by role.

    "auto" is each model's best, which is its last stage or block. A tap that only some models have stands for
    the place as far from the end in the others: stage2 of 3 beside blocks 1 to 6 is block4. KdError, with
    what there is, when the probe cannot look at a model, or no model has the tap, or it has no counterpart.
    """
    choices = {role: probe.taps(taps) for role, taps in models.items()}
    for role, names in choices.items():
        if not names:
            raise KdError(
                f"probe '{probe.name}' needs {probe.needs}, and the {role} gives none.", "Ask another probe."
            )
    if tap == "auto":
        return {role: names[0] for role, names in choices.items()}
    known = list(dict.fromkeys(name for names in choices.values() for name in names))
    if tap not in known:
        raise KdError(
            f"no tap '{tap}'{did_you_mean(tap, known)}.", f"There are {', '.join(known)}, and auto."
        )
    owner = next(names for names in choices.values() if tap in names)
    return {
        role: tap if tap in names else _counterpart(tap, owner, names, role)
        for role, names in choices.items()
    }


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[torch.device]:
    """The model in eval mode and without gradients stored, on the device that is yielded; afterwards all is
    as before.

    Put back: each part's mode, each parameter's `requires_grad` and `.grad`, all buffers, and the random
    generators of torch (of the CPU and the model's GPU), numpy and Python. The weights themselves are not
    copied.
    """
    modes = [(part, part.training) for part in module.modules()]
    parameters = [(parameter, parameter.requires_grad, parameter.grad) for parameter in module.parameters()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
    device = next(
        (tensor.device for tensor in (*module.parameters(), *module.buffers())), torch.device("cpu")
    )
    others = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            module.eval()
            for parameter, _, _ in parameters:
                parameter.grad = None
            yield device
    finally:
        for part, training in modes:
            part.training = training
        for parameter, wanted, grad in parameters:
            parameter.requires_grad_(wanted)
            parameter.grad = grad
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        random.setstate(others[0])
        np.random.set_state(others[1])


def _counterpart(tap: str, owner: tuple[str, ...], names: tuple[str, ...], role: str) -> str:
    theirs, ours = _series(owner), _series(names)
    if tap not in theirs or not ours:
        raise KdError(f"the {role} has no tap like '{tap}'.", f"It has {', '.join(names)}, and auto.")
    return ours[theirs.index(tap) * len(ours) // len(theirs)]


def _series(names: tuple[str, ...]) -> list[str]:
    """The numbered taps, last first."""
    numbered = [name for name in names if re.search(r"\d+$", name)]
    return sorted(numbered, key=_number, reverse=True)


def _number(name: str) -> int:
    found = re.search(r"\d+$", name)
    return int(found[0]) if found else 0


def _words(probe: type[Probe], taps: Mapping[str, Tap], name: str, look: Look) -> str:
    if name not in taps:
        return f"{name}, {look.shape[0]} values" if look.shape else name
    return words(taps[name], look.shape, last=name in _series(probe.taps(taps))[:1])


def words_of(probe: type[Probe], taps: Mapping[str, Tap], name: str, shapes: Shapes) -> str:
    """A tap in words, from a model's shapes: what `ROLE_tap` says after a look."""
    shape = shapes.attention.get(name.removeprefix(ATTENTION)) or shapes.taps.get(name, ())
    return words(taps[name], tuple(shape), last=name in _series(probe.taps(taps))[:1]) if shape else name


def _compared(heats: Mapping[str, np.ndarray], mask: np.ndarray | None) -> dict[str, float]:
    first, *others = heats
    numbers = {f"{role}_similarity": similarity(heats[first], heats[role]) for role in others}
    if mask is not None:
        numbers |= {f"{role}_on_object": share_on_object(heat, mask) for role, heat in heats.items()}
    return numbers
