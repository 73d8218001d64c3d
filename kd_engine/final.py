"""The examination at the end of a run: every model once on the test part, untouched before."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from torch import nn

from kd_engine import evaluate, weights
from kd_engine.classroom import Classroom
from kd_engine.events import STUDENT, Evaluated
from kd_engine.store import BEST, RunFolder
from kd_engine.summary import summarise
from kd_engine.teacher import LiveTeacher
from kd_engine.trainee import Trainee

EVALUATION = "evaluation.json"


def final_figures(
    room: Classroom, teacher: LiveTeacher | None, students: list[Trainee], run: RunFolder
) -> tuple[list[Evaluated], dict[str, Any]]:
    """One `Evaluated` a model (the student's last and best weights, rivals' last, the teacher), and the
    summary's part.

    Also written to evaluation.json, as "NAME/WEIGHTS" to metrics.
    """
    answers = None
    told: list[Evaluated] = []
    teacher_figures = None
    if teacher is not None:
        answers = evaluate.predict(teacher.module, room.batches("test"), room.backend)
        metrics = examine(room, teacher.module, answers, None, with_latency=True)
        told.append(Evaluated(student="teacher", weights="last", metrics=metrics))
        teacher_figures = {
            "model": room.recipe.teacher.model if room.recipe.teacher else "",
            "top1_test": metrics["top1"],
            **{
                name: metrics[name]
                for name in ("parameters", "macs", "bytes", "latency_ms_p50", "latency_ms_p95")
            },
        }
    figures = {}
    for student in students:
        main = student.name == STUDENT
        logits = evaluate.predict(student.module, room.batches("test"), room.backend)
        metrics = examine(room, student.module, logits, answers, with_latency=main)
        told.append(Evaluated(student=student.name, weights="last", metrics=metrics))
        figures[student.name] = _student_figures(student, metrics)
        if main and student.best is not None and run.path(BEST).is_file():
            best = copy.deepcopy(student.module)
            weights.fit(best, weights.read_state(run.path(BEST)), str(run.path(BEST)))
            logits = evaluate.predict(best, room.batches("test"), room.backend)
            metrics = examine(room, best, logits, answers, with_latency=False)
            told.append(Evaluated(student=student.name, weights="best", metrics=metrics))
            figures[student.name]["top1_test_best"] = metrics["top1"]
    run.write_json(EVALUATION, {f"{event.student}/{event.weights}": event.metrics for event in told})
    return told, summarise(figures, teacher_figures, {"device": room.backend.device.type})


def examine(
    room: Classroom, module: nn.Module, logits: np.ndarray, teacher: np.ndarray | None, with_latency: bool
) -> dict[str, Any]:
    """All figures of a model from its logits on the test part: accuracy, closeness to the teacher, cost."""
    target = room.data.test.labels
    metrics = dict(room.task.metrics(logits, target))
    if teacher is not None:
        metrics |= evaluate.against_teacher(logits, teacher, target)
    metrics |= evaluate.cost(module, room.data.size)
    if with_latency:
        metrics |= evaluate.latency(module, room.data.size, room.backend)
    return metrics


def _student_figures(student: Trainee, metrics: dict[str, Any]) -> dict[str, Any]:
    names = (
        "agreement",
        "kl",
        "retention",
        "parameters",
        "macs",
        "bytes",
        "latency_ms_p50",
        "latency_ms_p95",
    )
    return {
        "top1_test_last": metrics["top1"],
        "top1_test_best": None,
        "top1_validation_best": student.best[0] if student.best else None,
        "best_epoch": student.best[1] if student.best else None,
        **{name: metrics[name] for name in names if name in metrics},
    }
