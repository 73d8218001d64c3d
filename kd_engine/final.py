"""The examination at the end of a run: every model once on the test part, untouched before.

A run's end must not make people wait, so what costs more than one pass over the test part is left out here:
corrupted images (four more passes), throughput, working memory and energy (seconds each). `kd evaluate` and
the desktop's question measure them on the stored weights (kd_engine.examination).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
from torch import nn

from kd_engine import evaluate, graft, weights
from kd_engine.classroom import Classroom
from kd_engine.events import STUDENT, Evaluated, Event
from kd_engine.store import BEST, RunFolder
from kd_engine.summary import summarise
from kd_engine.teacher import LiveTeacher
from kd_engine.trainee import Trainee

EVALUATION = "evaluation.json"
Say = Callable[[Event], Event]


def final_figures(
    room: Classroom, teacher: LiveTeacher | None, students: list[Trainee], run: RunFolder, say: Say
) -> Generator[Event, None, dict[str, Any]]:
    """Yields one `Evaluated` a model (the teacher; the student's last and best weights, rivals' last), once
    said; returns the summary's part.

    Also written to evaluation.json, as "NAME/WEIGHTS" to metrics.
    """
    answers = None
    written: dict[str, Any] = {}
    teacher_figures = None
    if teacher is not None:
        answers = teacher.predictions(room.batches("test"))
        metrics = written["teacher/last"] = examine(room, teacher.module, answers, None, with_latency=True)
        yield say(Evaluated(student="teacher", weights="last", metrics=metrics))
        teacher_figures = _teacher_figures(room, metrics)
    figures = {}
    costs: dict[str, dict[str, int]] = {}  # all are of one architecture, but some may have another's head
    for student in students:
        name, main = student.name, student.name == STUDENT
        kind = str(graft.described(student.module))
        if kind not in costs:
            costs[kind] = evaluate.cost(student.module, room.data.size)
        cost = costs[kind]
        logits = evaluate.predict(student.module, room.batches("test"), room.backend)
        metrics = examine(room, student.module, logits, answers, main, cost)
        written[f"{name}/last"] = metrics
        yield say(Evaluated(student=name, weights="last", metrics=metrics))
        figures[name] = _student_figures(student, metrics) | ({"peer": True} if student.learner.peer else {})
        if main and student.best is not None and run.path(BEST).is_file():
            best = copy.deepcopy(student.module)
            weights.fit(best, weights.read_state(run.path(BEST)), str(run.path(BEST)))
            logits = evaluate.predict(best, room.batches("test"), room.backend)
            metrics = written[f"{name}/best"] = examine(room, best, logits, answers, False, cost)
            yield say(Evaluated(student=name, weights="best", metrics=metrics))
            figures[name]["top1_test_best"] = metrics["top1"]
    run.write_json(EVALUATION, written)
    return summarise(figures, teacher_figures, {"device": room.backend.device.type})


def examine(
    room: Classroom,
    module: nn.Module,
    logits: np.ndarray,
    teacher: np.ndarray | None,
    with_latency: bool,
    cost: dict[str, int] | None = None,
) -> dict[str, Any]:
    """All figures of a model from its logits on the test part: accuracy (Task.metrics), closeness to the
    teacher (evaluate.against_teacher, gaps), cost (evaluate.cost, where it is known already) and, when
    wanted, latency."""
    target = room.data.test.labels
    metrics = dict(room.task.metrics(logits, target))
    if teacher is not None:
        metrics |= evaluate.against_teacher(logits, teacher, target)
        metrics["gaps"] = evaluate.gaps(logits, teacher, target)
    metrics |= evaluate.cost(module, room.data.size) if cost is None else cost
    if with_latency:
        metrics |= evaluate.latency(module, room.data.size, room.backend)
    return metrics


def _teacher_figures(room: Classroom, metrics: dict[str, Any]) -> dict[str, Any]:
    names = ("parameters", "macs", "bytes", "latency_ms_p50", "latency_ms_p95")
    model = room.recipe.teacher.model if room.recipe.teacher else ""
    return {"model": model, "top1_test": metrics["top1"], **{name: metrics[name] for name in names}}


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
