"""A made-up run: the events that a session would send, for panels shown alone and for tests."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kd_engine import events as e
from kd_engine.events import STUDENT, Event
from kd_engine.store import LAST, RECIPE, RESUME, SUMMARY

CLASSES = [str(digit) for digit in range(10)]
RIVALS = ("no KD",)


def recipe(epochs: int = 15, rivals: tuple[str, ...] = RIVALS, name: str = "digits") -> dict[str, Any]:
    """A completed recipe as far as panels read it."""
    kd = {"method": "kd", "weight": 0.9, "temperature": 4.0}
    return {
        "version": 1,
        "name": name,
        "seed": 0,
        "data": {"dataset": "digits", "labels_per_class": 10},
        "teacher": {"model": "resnet20", "weights": "bundled:digits-resnet20"},
        "student": {"model": "resnet8", "weights": None},
        "stages": [
            {
                "stage": "distill",
                "epochs": epochs,
                "batch_size": 128,
                "optimizer": {"name": "sgd", "lr": 0.05},
                "label_weight": 0.1,
                "methods": [kd, {"method": "at", "weight": 200.0}],
                "rivals": [{"name": rival, "label_weight": 1.0, "methods": []} for rival in rivals],
            }
        ],
    }


def events(
    *,
    epochs: int = 15,
    until: float | None = None,
    steps_per_epoch: int = 60,
    rivals: tuple[str, ...] = RIVALS,
    seed: int = 0,
    name: str = "digits",
    run: str = "",
) -> list[Event]:
    """A run up to `until` epochs (None: to its end, with results), one report a step, T 4 → 8 on the way."""
    run = run or f"2026-11-20_{name}_7f3a"
    return list(_events(epochs, until, steps_per_epoch, rivals, seed, name, run))


def _events(
    epochs: int, until: float | None, pace: int, rivals: tuple[str, ...], seed: int, name: str, run: str
) -> Iterator[Event]:
    random = np.random.default_rng(seed)
    document = recipe(epochs, rivals, name)
    environment = {"device": "cpu", "device_name": "cpu", "threads": 2}
    yield e.RunStarted(time=0.0, run=run, folder=f"/runs/{run}", recipe=document, environment=environment)
    yield e.Preparing(time=0.2, what="teacher")
    yield e.TeacherReady(time=0.8, model="resnet20", parameters=272_474, top1=0.975, top1_test=0.972)
    students = [STUDENT, *rivals]
    yield e.StageStarted(
        time=1.0,
        stage=0,
        kind="distill",
        epochs=epochs,
        steps_per_epoch=pace,
        students=students,
        model="resnet8",
        parameters=78_042,
        classes=CLASSES,
    )
    last = epochs * pace if until is None else round(until * pace)
    change = round(0.31 * epochs * pace)
    best = dict.fromkeys(students, 0.0)
    for step in range(1, last + 1):
        now = 1.0 + step * 0.05
        for student in students:
            yield _step(student, step, now, pace, step / (epochs * pace), step > change, random)
        if step == change:
            path = "stages.0.methods.0.temperature"
            yield e.KnobChanged(time=now, step=step, path=path, old=4.0, new=8.0)
        if step % pace == 0:
            for student in students:
                done = _epoch(student, step // pace, step, now, epochs, best, random)
                best[student] = max(best[student], done.validation["top1"])
                yield done
            where = f"/runs/{run}/last.safetensors"
            yield e.CheckpointSaved(
                time=now, stage=0, epoch=step // pace, step=step, path=where, bytes=312_000, ms=9.0
            )
    if until is None:
        yield from _results(run, students, best, 1.0 + last * 0.05, epochs)


def _step(
    student: str, step: int, now: float, pace: int, share: float, hot: bool, random: np.random.Generator
) -> Event:
    noise = random.normal(0.0, 0.05, 3)
    if student == STUDENT:
        kd = 1.7 * np.exp(-share * 3.1) + 0.1 + (0.5 * np.exp(-share * 2.5) if hot else 0.0)
        raw = {"kd": kd, "label": 1.3 * np.exp(-share * 2.6) + 0.08, "at": 0.004 * np.exp(-share * 2.0)}
        weights = {"kd": 0.9, "label": 0.1, "at": 200.0}
    else:
        raw, weights = {"label": 1.9 * np.exp(-share * 5.0) + 0.01}, {"label": 1.0}
    terms = {name: float(value * (1 + noise[i % 3])) for i, (name, value) in enumerate(raw.items())}
    weighted = {name: terms[name] * weights[name] for name in terms}
    return e.StepDone(
        time=now,
        stage=0,
        epoch=(step - 1) // pace,
        step=step,
        student=student,
        loss=sum(weighted.values()),
        terms=terms,
        weighted=weighted,
        lr=float(0.025 * (1 + np.cos(np.pi * share))),
        samples_per_s=5200.0,
    )


def _epoch(
    student: str,
    epoch: int,
    step: int,
    now: float,
    epochs: int,
    best: dict[str, float],
    random: np.random.Generator,
) -> e.EpochDone:
    top, rate = (0.96, 5.0) if student == STUDENT else (0.765, 3.5)
    rise = 1.0 - np.exp(-rate * epoch / epochs)
    top1 = float(min(0.45 + (top - 0.45) * rise + random.normal(0.0, 0.004), 1.0))
    validation = {
        "top1": top1,
        "loss": 1.2 - rise,
        "agreement": min(top1 + 0.01, 1.0),
        "kl": 0.9 - 0.8 * rise,
    }
    return e.EpochDone(
        time=now,
        stage=0,
        epoch=epoch,
        step=step,
        student=student,
        train={"top1": float(min(0.5 + 0.49 * rise, 1.0)), "loss": 1.0 - 0.9 * rise},
        validation=validation,
        best=top1 > best[student],
        seconds=3.0,
    )


def _results(
    run: str, students: list[str], best: dict[str, float], now: float, epochs: int
) -> Iterator[Event]:
    test = {name: 0.956 if name == STUDENT else 0.758 for name in students}
    for name, top1 in (("teacher", 0.972), *test.items()):
        yield e.Evaluated(time=now, student=name, weights="last", metrics={"top1": top1})
    told = {
        name: {"top1_test_last": test[name], "top1_test_best": test[name], "top1_validation_best": best[name]}
        for name in students
    }
    rivals = [name for name in students if name != STUDENT]
    summary = {
        "status": "done",
        "name": "digits",
        "run": run,
        "epochs": epochs,
        "seconds": now,
        "temperature": 8.0,
        "students": {name: {**values, "bytes": 312_000} for name, values in told.items()},
        "teacher": {"model": "resnet20", "parameters": 272_474, "bytes": 1_090_000, "top1_test": 0.972},
        "retention": test[STUDENT] / 0.972,
        "gain": test[STUDENT] - test[rivals[0]] if rivals else None,
        "size_ratio": 3.49,
        "device": "cpu",
    }
    yield e.RunDone(time=now, run=run, summary=summary)


STORED = (  # title, status, T, top-1 on test, retention, bytes, seconds, how long ago
    ("digits", "", 8.0, None, None, None, None, 20),
    ("digits · T 1", "done", 1.0, 0.931, 0.955, 312_000, 31.0, 1_500),
    ("scenes · attention", "stopped", 4.0, None, None, None, 72.0, 5_000),
    ("digits · lr 5", "failed", 4.0, None, None, None, 12.0, 90_000),
    ("scenes", "done", 4.0, 0.884, 0.960, 312_000, 72.0, 172_000),
)


def fill_store(root: Path, count: int = len(STORED)) -> str:
    """Made-up runs in a folder, the newest first of STORED; the name of the newest, which has no end yet."""
    now = time.time()
    for i in range(count):
        title, status, temperature, top1, retention, size, seconds, ago = STORED[i % len(STORED)]
        folder = root / f"2026-11-20_{title.split()[0]}_{i:04x}"
        folder.mkdir(parents=True)
        document = recipe(name=title)
        document["stages"][0]["methods"][0]["temperature"] = temperature
        (folder / RECIPE).write_text(json.dumps(document), encoding="utf-8")
        os.utime(folder / RECIPE, (now - ago - i, now - ago - i))
        (folder / LAST).write_bytes(b"")
        if status != "done":
            (folder / RESUME).write_bytes(b"")
        if status:
            student = {"top1_test_last": top1, "top1_test_best": top1, "bytes": size} if top1 else {}
            summary = {
                "status": status,
                "temperature": temperature,
                "students": {STUDENT: {**student, "top1_validation_best": 0.90}},
                "retention": retention,
                "seconds": seconds,
            }
            (folder / SUMMARY).write_text(json.dumps(summary), encoding="utf-8")
    return f"2026-11-20_{STORED[0][0]}_0000"
