"""Measure students on the validation part while they learn: cheap figures, and how close they are to the
teacher."""

from __future__ import annotations

import numpy as np

from kd_engine import evaluate
from kd_engine.classroom import Classroom
from kd_engine.teacher import LiveTeacher
from kd_engine.trainee import Trainee


class Validation:
    """The teacher is asked once, here; students as often as wanted. Without a validation part there is
    nothing to measure.

    said: by student, its logits (N, C) when it was measured last: who wants them then need not ask again.
    """

    def __init__(self, room: Classroom, teacher: LiveTeacher | None) -> None:
        self._room = room
        self.teacher: np.ndarray | None = None  # its logits (N, C)
        self.said: dict[str, np.ndarray] = {}
        self.teacher_top1: float | None = None
        if teacher is not None and len(room.data.validation):
            batches = room.batches("validation")
            self.teacher = teacher.predictions(batches)
            self.teacher_top1 = float(room.task.metrics(self.teacher, batches.subset.labels)["top1"])

    def figures(self, student: Trainee) -> dict[str, float]:
        """top1, loss, and, against the teacher, agreement and kl; empty without a validation part."""
        if not len(self._room.data.validation):
            return {}
        batches = self._room.batches("validation")
        logits = evaluate.predict(student.module, batches, self._room.backend)
        self.said[student.name] = logits
        metrics = self._room.task.metrics(logits, batches.subset.labels)
        told = {"top1": float(metrics["top1"]), "loss": float(metrics["nll"])}
        if self.teacher is not None:
            close = evaluate.against_teacher(logits, self.teacher, batches.subset.labels)
            told |= {"agreement": close["agreement"], "kl": close["kl"]}
        return told
