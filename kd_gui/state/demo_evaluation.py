"""Made-up evaluations, for panels shown alone and for tests: what the engine would tell of models that are
right so often and confuse this with that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kd_engine import events as e
from kd_engine.events import STUDENT
from kd_gui.state import rehearsal
from kd_gui.state.evaluation import Evaluation
from kd_gui.state.feed import Feed
from kd_gui.state.samples import Samples

BINS = 15
TOP1 = {"teacher": 0.985, STUDENT: 0.952, "no KD": 0.846}
CONFUSED = {8: 1, 9: 4, 3: 5, 5: 9, 7: 2}


def told(
    top1: float, classes: int = 10, support: int = 36, seed: int = 0, teacher: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A model's figures, as kd_engine.final.examine tells them. teacher: its teacher's, for a student."""
    random = np.random.default_rng(seed)
    counts = np.zeros((classes, classes), dtype=np.int64)
    for row in range(classes):
        wrong = random.binomial(support, 1 - top1 * random.uniform(0.97, 1.03) if top1 < 0.97 else 1 - top1)
        wrong = min(wrong, support)
        counts[row, row] = support - wrong
        likely = CONFUSED.get(row % 10, (row + 3) % 10) % classes
        for _ in range(wrong):
            other = likely if random.random() < 0.6 else int(random.integers(classes))
            counts[row, other if other != row else (row + 1) % classes] += 1
    recall = counts.diagonal() / support
    figures: dict[str, Any] = {
        "top1": float(counts.trace() / counts.sum()),
        "nll": 0.1,
        "samples": int(counts.sum()),
        "confusion": counts.tolist(),
        "per_class": [{"precision": r, "recall": float(r), "f1": r, "support": support} for r in recall],
        **_calibration(top1, int(counts.sum()), random),
        "parameters": 272_474 if teacher is None else 78_042,
        "bytes": 1_107_216 if teacher is None else 319_640,
        "latency_ms_p50": 2.16 if teacher is None else 0.81,
    }
    if teacher is not None:
        close = {"agreement": top1 - 0.004, "kl": 0.6 * (1 - top1), "retention": top1 / teacher["top1"]}
        figures |= close
    return figures


def robust(figures: Mapping[str, Any], loss: Sequence[float] = (0.21, 0.12, 0.30, 0.05)) -> dict[str, Any]:
    """The same with accuracies on corrupted images."""
    left = [figures["top1"] - one for one in loss]
    names = ("top1_noise", "top1_blur", "top1_contrast", "top1_jpeg")
    return {**figures, **dict(zip(names, left, strict=True)), "top1_corrupted": sum(left) / len(left)}


def answer(classes: Sequence[str] = rehearsal.CLASSES, *, corrupted: bool = False) -> dict[str, Any]:
    """What the engine answers to "evaluate" of a finished run."""
    count = len(classes)
    teacher = told(TOP1["teacher"], count)
    models = {
        "teacher/last": teacher,
        "student/last": told(TOP1[STUDENT], count, seed=1, teacher=teacher),
        "student/best": told(TOP1[STUDENT] - 0.006, count, seed=2, teacher=teacher),
        "no KD/last": told(TOP1["no KD"], count, seed=3, teacher=teacher),
    }
    if corrupted:
        for name in ("teacher/last", "student/last", "student/best"):
            models[name] = robust(models[name])
    return {
        "models": models,
        "classes": list(classes),
        "notes": [],
        "protocol": {
            "part": "test",
            "images": 36 * count,
            "dataset": "digits",
            "seed": 0,
            "runs": 1,
            "status": "done",
            "epochs": 15,
            "best_epoch": 12,
            "chosen_by": "validation",
            "text": "Protocol: last: the weights after the last epoch (15). One run, seed 0.",
        },
    }


def results(classes: Sequence[str] = rehearsal.CLASSES) -> list[e.Event]:
    """As `answer`, as a run's log tells it."""
    models = answer(classes)["models"]
    return [
        e.Evaluated(student=name.rpartition("/")[0], weights=name.rpartition("/")[2], metrics=figures)
        for name, figures in models.items()
    ]


def finished() -> Evaluation:
    """Of a run that has ended; owns its feed and its samples."""
    feed, samples = Feed(), Samples()
    made = Evaluation(feed, samples)
    feed.setParent(made)
    samples.setParent(made)
    feed.take(rehearsal.events(steps_per_epoch=5))
    feed.take(results())
    made.take(feed.run, answer(corrupted=True))
    return made


def _calibration(top1: float, count: int, random: np.random.Generator) -> dict[str, Any]:
    sure = np.clip(1 - random.exponential(1.15 * (1 - top1), count), 0.12, 0.9999)
    right = random.random(count) < np.clip(sure - 0.03, 0, 1)
    edges = np.linspace(0, 1, BINS + 1)
    places = np.minimum((sure * BINS).astype(int), BINS - 1)
    bins, ece = [], 0.0
    for i in range(BINS):
        inside = places == i
        there = int(inside.sum())
        confidence = float(sure[inside].mean()) if there else None
        accuracy = float(right[inside].mean()) if there else None
        if confidence is not None and accuracy is not None:
            ece += there / count * abs(confidence - accuracy)
        low, high = float(edges[i]), float(edges[i + 1])
        bins.append(
            {"low": low, "high": high, "count": there, "confidence": confidence, "accuracy": accuracy}
        )
    return {"calibration": bins, "ece": ece}
