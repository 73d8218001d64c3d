"""The teacher: a frozen model in eval mode that answers Signals and is never changed by it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from kd_engine import evaluate
from kd_engine.activity import is_activity, named, place_of
from kd_engine.backend import Backend
from kd_engine.batches import Batch, Batches
from kd_engine.errors import KdError
from kd_engine.sensitivity import GRADIENT, believed, sensitivity
from kd_engine.signals import Shapes, Signals, together
from kd_engine.taps import Reader, Tap


@dataclass(frozen=True)
class Model:
    """A model at hand, on the device. card: what came with its weights (see kd_engine.card), where
    something did."""

    module: nn.Module
    taps: dict[str, Tap]
    shapes: Shapes
    card: dict[str, Any] | None


class Note(NamedTuple):
    """What the user should hear of a teacher. level: as in events.Notice."""

    level: str
    message: str
    values: Mapping[str, Any] = MappingProxyType({})


class LiveTeacher:
    """Runs the model for every batch. The model is frozen here: eval mode, no gradients, whatever its owner
    did."""

    def __init__(self, model: Model, backend: Backend) -> None:
        self.module = model.module.requires_grad_(False).eval()
        self.taps = model.taps
        self.shapes = model.shapes
        self.card = model.card
        self._backend = backend
        self._reader = Reader(self.module, ())
        self._sensitive = False
        self.heard: tuple[str, ...] = ()  # the taps that it answers with

    def listen(self, taps: Iterable[str]) -> None:
        """From now on, answer with these taps beside the logits. KdError for a tap that it does not have.

        `gradient.input` is no place in the model: every teacher can answer it (see `sensitivity`).
        """
        self.heard = tuple(dict.fromkeys(taps))
        self._sensitive = GRADIENT in self.heard
        wanted = list(dict.fromkeys(place_of(name) for name in self.heard if name != GRADIENT))
        missing = [name for name in wanted if name not in self.taps]
        if missing:
            raise KdError(f"the teacher has no tap {', '.join(missing)}; it has {', '.join(self.taps)}")
        self._reader.close()
        self._reader = Reader(self.module, [self.taps[name] for name in wanted])

    def signals(self, batch: Batch) -> Signals:
        """What the teacher says of a batch."""
        if self._sensitive:
            return self._sensitive_signals(batch)
        with torch.no_grad(), self._backend.autocast():
            return self._with_activity(self._reader(batch.inputs))

    def predictions(self, batches: Batches) -> np.ndarray:
        """Its logits (N, C) on all of a part, unaugmented, float32."""
        return evaluate.predict(self.module, batches, self._backend)

    def _with_activity(self, said: Signals) -> Signals:
        """Where activations are strong stands in for the maps themselves, for those who ask for no more."""
        asked = [name for name in self.heard if is_activity(name)]
        if not asked:
            return said
        taps = {name: tap for name, tap in said.taps.items() if name in self.heard}
        return replace(said, taps=taps | {name: named(name, said.taps[place_of(name)]) for name in asked})

    def _sensitive_signals(self, batch: Batch) -> Signals:
        inputs = batch.inputs.detach().requires_grad_()
        with torch.enable_grad():
            with self._backend.autocast():
                said = self._with_activity(self._reader(inputs))
            gradient = sensitivity(inputs, said.logits, believed(batch.target, said.logits))
        said = said.detach()
        return replace(said, taps={**said.taps, GRADIENT: gradient})

    def take_notes(self) -> list[Note]:
        """What the user should hear since last asked."""
        return []

    def close(self) -> None:
        self._reader.close()


class Teachers(LiveTeacher):
    """Several at once: the first is the teacher for all that hears one only; the others say their logits."""

    def __init__(self, members: Sequence[LiveTeacher]) -> None:
        first = members[0]
        self.members = tuple(members)
        self.module, self.taps, self.card = first.module, first.taps, first.card
        self.shapes = replace(first.shapes, members=len(members))

    def listen(self, taps: Iterable[str]) -> None:
        for member, wanted in zip(self.members, (taps, *[()] * (len(self.members) - 1)), strict=True):
            member.listen(wanted)

    def signals(self, batch: Batch) -> Signals:
        return together([member.signals(batch) for member in self.members])

    def predictions(self, batches: Batches) -> np.ndarray:
        return self.members[0].predictions(batches)

    def take_notes(self) -> list[Note]:
        return [note for member in self.members for note in member.take_notes()]

    def close(self) -> None:
        for member in self.members:
            member.close()
