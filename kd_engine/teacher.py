"""The teacher: a frozen model in eval mode that answers Signals and is never changed by it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from kd_engine.backend import Backend
from kd_engine.data import Batch
from kd_engine.errors import KdError
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

    def listen(self, taps: Iterable[str]) -> None:
        """From now on, answer with these taps beside the logits. KdError for a tap that it does not have."""
        wanted = list(dict.fromkeys(taps))
        missing = [name for name in wanted if name not in self.taps]
        if missing:
            raise KdError(f"the teacher has no tap {', '.join(missing)}; it has {', '.join(self.taps)}")
        self._reader.close()
        self._reader = Reader(self.module, [self.taps[name] for name in wanted])

    @torch.no_grad()
    def signals(self, batch: Batch) -> Signals:
        """What the teacher says of a batch."""
        with self._backend.autocast():
            return self._reader(batch.inputs)

    def close(self) -> None:
        self._reader.close()


class Teachers(LiveTeacher):
    """Several at once: the first is the teacher for all that hears one only; the others say their logits."""

    def __init__(self, models: Sequence[Model], backend: Backend) -> None:
        super().__init__(models[0], backend)
        self.shapes = replace(self.shapes, members=len(models))
        self._others = [LiveTeacher(model, backend) for model in models[1:]]

    def signals(self, batch: Batch) -> Signals:
        return together([super().signals(batch), *(other.signals(batch) for other in self._others)])

    def close(self) -> None:
        super().close()
        for other in self._others:
            other.close()
