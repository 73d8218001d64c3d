"""What teacher and student see of the same few pictures, epoch by epoch, as .npz files that the desktop
replays.

`samples.npz`: images (K, 3, S, S) uint8, labels (K,), indices (K,) into the part they come from, classes
(C,), masks (K, S, S) bool where objects are known; and of the teacher, where there is one: teacher_logits
(K, C), teacher_heat (K, S, S), each map's activation attention at its last stage, 0 to 1; part: where
the pictures come from; maps: which probes can look at both models, as JSON (see Gallery.maps). In a run's
folder also, where there is a validation part of N samples: validation_labels (N,), and with a teacher
teacher_validation_predictions (N,).

`epoch_NNN.npz`: epoch, student_logits (K, C), student_heat (K, S, S), in the same order, and, where there is
a validation part, validation_predictions (N,): the classes that the student names. With the labels, that is a
confusion matrix of every epoch. Predictions are classes, of the smallest unsigned type that holds them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import nn

from kd_engine.backend import Backend
from kd_engine.batches import Batches
from kd_engine.data import Subset
from kd_engine.evaluate import at_rest
from kd_engine.probes import on_grid, places, to_heat
from kd_engine.taps import Reader, Tap

COUNT = 24
SAMPLES = "snapshots/samples.npz"


def choose(part: Subset, count: int = COUNT) -> np.ndarray:
    """Up to `count` sample indices, class by class in turn, so that every class is seen; always the same
    ones."""
    labels = part.labels
    turns = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        turns[members] = np.arange(len(members))
    return np.sort(np.lexsort((labels, turns))[:count])


def of_samples(part: Subset, classes: tuple[str, ...], indices: np.ndarray) -> dict[str, np.ndarray]:
    """The pictures themselves."""
    arrays = {
        "images": part.images(indices),
        "labels": part.labels[indices],
        "indices": indices,
        "classes": np.array(classes),
    }
    masks = part.masks(indices)
    return arrays if masks is None else {**arrays, "masks": masks}


def of_model(
    role: str,
    module: nn.Module,
    taps: Mapping[str, Tap],
    batches: Batches,
    indices: np.ndarray,
    backend: Backend,
) -> dict[str, np.ndarray]:
    """`ROLE_logits` and, where the model has a place to look at, `ROLE_heat`. Leaves the model as it was."""
    inputs = backend.lay_out(batches.inputs(indices))
    where = places(taps, "map", "tokens")[:1]
    with at_rest(module), backend.autocast(), Reader(module, [taps[name] for name in where]) as reader:
        signals = reader(inputs)
    arrays = {f"{role}_logits": signals.logits.float().cpu().numpy()}
    if where:
        seen = signals.taps[where[0]].float()
        maps = on_grid(seen, inputs) if taps[where[0]].layout == "tokens" else seen
        heats = [to_heat(strength, inputs) for strength in maps.square().mean(1)]
        arrays[f"{role}_heat"] = np.stack(heats)
    return arrays


def of_choices(logits: np.ndarray) -> np.ndarray:
    """The class that each of the logits (N, C) names, (N,): a byte each, up to 256 classes."""
    chosen: np.ndarray = logits.argmax(-1).astype(np.min_scalar_type(logits.shape[-1] - 1))
    return chosen


def name_of(epoch: int) -> str:
    return f"snapshots/epoch_{epoch:03d}.npz"


def save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with open(path, "wb") as file:  # a handle, because numpy adds a suffix to a name
        np.savez(file, **arrays)  # type: ignore[arg-type]
