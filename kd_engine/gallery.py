"""The pictures of a run: what teacher and student see of a fixed few samples epoch by epoch, and answers to
probes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from torch import nn

from kd_engine import evaluate, looking, snapshots
from kd_engine.classroom import Classroom
from kd_engine.commands import AskProbe
from kd_engine.data import PartName
from kd_engine.errors import KdError
from kd_engine.probes import Probe
from kd_engine.registry import discover
from kd_engine.store import RunFolder
from kd_engine.taps import Tap
from kd_engine.teacher import LiveTeacher, Model

Looked = tuple[dict[str, np.ndarray], dict[str, float]]


class Gallery:
    """Looks at models for a run, or for a recipe that was not run yet."""

    def __init__(self, room: Classroom, teacher: LiveTeacher | None, student: Model) -> None:
        self._room = room
        self._teacher = teacher
        self._student = student  # for its taps and shapes; who is looked at is said at each call
        self.part: PartName = "validation" if len(room.data.validation) else "train"
        self._indices = snapshots.choose(getattr(room.data, self.part))

    def samples(self) -> dict[str, np.ndarray]:
        """The strip's pictures with what the teacher says of them: the content of a samples.npz."""
        batches = self._room.batches(self.part)
        arrays = snapshots.of_samples(batches.subset, self._room.data.classes, self._indices)
        if self._teacher is not None:
            model, taps = self._teacher.module, self._teacher.taps
            arrays |= snapshots.of_model("teacher", model, taps, batches, self._indices, self._room.backend)
        return {**arrays, "part": np.array(self.part), "maps": np.array(json.dumps(self.maps()))}

    def maps(self) -> list[dict[str, Any]]:
        """The probes that can look at all models here: name, title, and taps (name, words), best first.

        The words are of the teacher's taps, or the student's when there is no teacher.
        """
        models: list[LiveTeacher | Model] = [self._student]
        if self._teacher is not None:
            models.insert(0, self._teacher)
        lead = models[0]
        found = []
        for probe in discover("probes").plugins.values():
            assert issubclass(probe, Probe)
            if probe.kind == "heat" and all(probe.taps(model.taps) for model in models):
                places = [
                    {"name": name, "words": looking.words_of(probe, lead.taps, name, lead.shapes)}
                    for name in probe.taps(lead.taps)
                ]
                found.append({"name": probe.name, "title": probe.title, "taps": places})
        return found

    def labels(self, teacher: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """What a samples.npz says of the whole validation part: its labels and the teacher's choices.
        Nothing without such a part.

        teacher: its logits (N, C) where they are at hand; otherwise it is asked.
        """
        if not len(self._room.data.validation):
            return {}
        arrays = {"validation_labels": self._room.data.validation.labels}
        if teacher is None and self._teacher is not None:
            teacher = self._answers(self._teacher.module)
        if teacher is not None:
            arrays["teacher_validation_predictions"] = snapshots.of_choices(teacher)
        return arrays

    def choices(self, module: nn.Module, student: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """What an epoch_NNN.npz says of the whole validation part. student: its logits (N, C) where they are
        at hand; otherwise `module` is asked."""
        if not len(self._room.data.validation):
            return {}
        logits = self._answers(module) if student is None else student
        return {"validation_predictions": snapshots.of_choices(logits)}

    def _answers(self, module: nn.Module) -> np.ndarray:
        return evaluate.predict(module, self._room.batches("validation"), self._room.backend)

    def snapshot(self, module: nn.Module, taps: dict[str, Tap], epoch: int) -> dict[str, np.ndarray]:
        """What the student says of them after `epoch` epochs: the content of an epoch_NNN.npz."""
        batches = self._room.batches(self.part)
        seen = snapshots.of_model("student", module, taps, batches, self._indices, self._room.backend)
        return {"epoch": np.array(epoch), **seen}

    def probe(self, command: AskProbe, module: nn.Module, taps: dict[str, Tap]) -> Looked:
        """The arrays and numbers that answer a probe (see kd_engine.looking.ask), with `ROLE_logits` and
        `image`; `similarity` is the student's map to the teacher's.

        KdError when the question makes no sense here. Leaves both models as they were.
        """
        models: dict[str, looking.Looked] = {}
        if "teacher" in command.roles and self._teacher is not None:
            models["teacher"] = (self._teacher.module, self._teacher.taps)
        if "student" in command.roles:
            models["student"] = (module, taps)
        batches = self._room.batches(_part(command.part))
        if not 0 <= command.sample < len(batches):
            raise KdError(f"no sample {command.sample} in the {command.part} part: it has {len(batches)}.")
        index = np.array([command.sample])
        image = batches.inputs(index)[0]
        masks = batches.subset.masks(index)
        mask = None if masks is None else masks[0]
        arrays, numbers = looking.ask(command.probe, models, command.tap, image, mask)
        for role, (model, _) in models.items():
            with looking.undisturbed(model), torch.no_grad():
                arrays[f"{role}_logits"] = model(image[None]).float().cpu().numpy()[0]
        if "student_similarity" in numbers:
            numbers["similarity"] = numbers.pop("student_similarity")
        return {**arrays, "image": batches.subset.images(index)[0]}, numbers


def keep(run: RunFolder, name: str, arrays: dict[str, np.ndarray]) -> str:
    """Write arrays to a file of the run's folder; returns its path."""
    return str(run.write(name, lambda temporary: snapshots.save(temporary, arrays)))


def _part(name: str) -> PartName:
    for part in ("train", "validation", "test"):
        if part == name:
            return part
    raise KdError(f"no part '{name}' of the data.", "There are train, validation and test.")
