"""A short pilot run: the same student with several temperatures and weights, on one teacher pass.

It ends before the examination, so that no model ever answers on the test part, and leaves no run behind.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kd_engine import catalog as catalogs
from kd_engine import events as e
from kd_engine.bench_table import NO_KD
from kd_engine.catalog import Catalog
from kd_engine.classroom import Classroom
from kd_engine.commands import Stop
from kd_engine.errors import KdError, Problem, RecipeError
from kd_engine.evaluate import predict
from kd_engine.events import STUDENT
from kd_engine.knobs import Knob
from kd_engine.recipe import Recipe
from kd_engine.session import Session
from kd_engine.summary import percent

TEMPERATURES = (1.0, 2.0, 4.0, 8.0)
SHARES = (0.5, 0.9)  # of the soft targets in the sum of their weight and the labels'
VALIDATION = 0.3  # at least: what a pilot is judged by must not be a handful of images
PLAIN = NO_KD


@dataclass(frozen=True)
class Setting:
    """What is tried: the temperature and the weight of one method beside the weight of the labels."""

    method: str
    temperature: float
    weight: float
    label_weight: float

    @property
    def name(self) -> str:
        return f"T={self.temperature:g}, {self.method} {self.weight:g}, labels {self.label_weight:g}"

    @property
    def share(self) -> float:
        """Of the method in the sum of both weights."""
        return self.weight / ((self.weight + self.label_weight) or 1.0)


@dataclass(frozen=True)
class Pilot:
    """What will be run. settings: by the student's name in the run, the recipe's own first. stage, method:
    where they stand in the recipe. notes: how the pilot differs from the recipe."""

    document: dict[str, Any]
    settings: dict[str, Setting]
    stage: int
    method: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What came of it. validation: by student, the figures of the last epoch on that part (top1, loss,
    agreement, kl); images, steps: how many it has, and each student made. teacher: see `look_at_teacher`."""

    validation: dict[str, dict[str, float]]
    images: int
    steps: int
    teacher: dict[str, Any] | None
    environment: dict[str, Any]


class PilotFailed(KdError):
    """The pilot began and came to no end."""


def make_pilot(recipe: Recipe, epochs: int, subset: int) -> Pilot:
    """A pilot of at most so many epochs a stage on so many training images. KdError when the recipe has no
    temperature to advise on."""
    known = catalogs.load()
    i, j = _find(recipe, known)
    document = recipe.document()
    notes = [*_shorten(document, i, epochs), *_cut_data(document, subset)]
    document["name"] = f"pilot of {recipe.name}"
    stage = document["stages"][i]
    own = _setting(stage, j)
    knobs = {knob.name: knob for knob in known.knobs("methods", own.method)}
    labels = next(knob for knob in known.knobs("stages", stage["stage"]) if knob.name == "label_weight")
    tried = list(dict.fromkeys((own, *(s for s in _grid(own) if _allowed(s, knobs, labels)))))
    settings = {STUDENT: own, **{setting.name: setting for setting in tried if setting != own}}
    stage["rivals"] = [{"name": PLAIN, "label_weight": 1.0, "methods": []}]
    stage["rivals"] += [_rival(stage, j, name, s) for name, s in settings.items() if name != STUDENT]
    others = [method["method"] for k, method in enumerate(stage["methods"]) if k != j]
    if others:
        notes.append(f"{', '.join(others)} beside {own.method} as in the recipe, in every setting.")
    return Pilot(document, settings, i, j, tuple(notes))


class Trial:
    """A pilot in motion: iterate it and it yields (epochs done, epochs in all); then `outcome` is there.

    PilotFailed when a loss becomes no number or the run breaks, KdError when it cannot begin. After `stop`
    the iteration ends without an outcome.
    """

    def __init__(self, pilot: Pilot, runs: Path) -> None:
        self.outcome: Outcome | None = None
        self._pilot, self._runs = pilot, runs
        self._recipe = Recipe.from_document(pilot.document)
        self._session = Session(self._recipe, runs)
        self._lengths = [stage.epochs for stage in self._recipe.stages]

    def stop(self) -> None:
        self._session.send(Stop(keep=False))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        seen: dict[str, dict[str, float]] = {}
        environment: dict[str, Any] = {}
        steps, whole, began, sick = 0, sum(self._lengths), False, ""
        for event in self._session:
            if isinstance(event, e.RunStarted):
                environment = event.environment
            elif isinstance(event, e.StageStarted):
                began = True
            elif isinstance(event, e.Notice) and event.code == "threads":
                environment = environment | {"threads": event.values["threads"]}
            elif isinstance(event, e.Notice) and event.code == "nan":
                sick = event.message
            elif isinstance(event, e.Paused) and event.why == "nan":
                self.stop()
            elif isinstance(event, e.EpochDone):
                done = sum(self._lengths[: event.stage]) + event.epoch
                steps = event.step
                if done == whole:
                    seen[event.student] = event.validation
                    if len(seen) == len(self._pilot.settings) + 1:
                        self.stop()  # now, before the examination on the test part
                if event.student == STUDENT:
                    yield done, whole
            elif isinstance(event, e.RunFailed):
                kind = PilotFailed if began else KdError
                raise kind(event.message, event.hint)
        if sick:
            way = "Take a smaller learning rate, as in --set stages.0.optimizer.lr=0.005."
            raise PilotFailed(f"The pilot ended early. {sick}", way)
        if len(seen) == len(self._pilot.settings) + 1:
            teacher, images = look_at_teacher(self._recipe, self._runs, self._pilot.stage)
            self.outcome = Outcome(seen, images, steps, teacher, environment)


def look_at_teacher(recipe: Recipe, runs: Path, stage: int) -> tuple[dict[str, Any] | None, int]:
    """How sure a stage's teacher is, and how many images the validation part has.

    top1: on the training images that students see, and `top1_validation`; max: mean probability of its first
    choice; entropy: mean, nats, of at most `entropy_max`; softened: [temperature, max, entropy] for each that
    is tried. None where another stage makes the teacher.
    """
    room = Classroom(recipe, runs)
    images = len(room.data.validation)
    teacher = None
    if recipe.stages[stage].more.get("taught_by") != "previous":
        teacher = room.teacher()
    if teacher is None:
        return None, images
    try:
        logits = predict(teacher.module, room.batches("train"), room.backend)
        unseen = teacher.predictions(room.batches("validation"))
    finally:
        teacher.close()
    softened = [[t, *softness(logits, t)] for t in TEMPERATURES]
    return {
        "top1": float((logits.argmax(-1) == room.data.train.labels).mean()),
        "top1_validation": float((unseen.argmax(-1) == room.data.validation.labels).mean()),
        "max": softened[0][1],
        "entropy": softened[0][2],
        "entropy_max": float(np.log(logits.shape[-1])),
        "softened": softened,
    }, images


def softness(logits: np.ndarray, temperature: float) -> tuple[float, float]:
    """Of the softened distributions (N, C): the mean of the largest probability, and the mean entropy in
    nats."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(-1, keepdims=True)
    shares = np.exp(scaled)
    total = shares.sum(-1, keepdims=True)
    entropy = np.log(total)[:, 0] - (shares * scaled).sum(-1) / total[:, 0]
    return float((1 / total).mean()), float(entropy.mean())


def _find(recipe: Recipe, known: Catalog) -> tuple[int, int]:
    """The last stage in which rivals can be tried and a method has a temperature, and that method."""
    hot = [entry.name for entry in known.of("methods") if any(k.name == "temperature" for k in entry.knobs)]
    for i, stage in reversed(list(enumerate(recipe.stages))):
        facts = known.entry("stages", stage.stage).facts
        if not {"methods", "rivals"} <= set(facts["parts"]):
            continue
        for j, method in enumerate(stage.methods):
            if method.method in hot:
                return i, j
    place = f"stages.{len(recipe.stages) - 1}.methods"
    raise RecipeError(
        [
            Problem(
                place,
                "no method with a temperature in a stage with rivals, and advice is about a temperature and "
                f"the weight of its method. Methods that have one: {', '.join(hot)}. Try "
                f"""--set '{place}=[{{"method": "kd"}}]'""",
            )
        ]
    )


def _shorten(document: dict[str, Any], last: int, epochs: int) -> Generator[str, None, None]:
    """Cut the stages, in place; yields what was done."""
    if len(document["stages"]) > last + 1:
        yield f"Without the stages after stage {last}."
    document["stages"] = document["stages"][: last + 1]
    for i, stage in enumerate(document["stages"]):
        stage["snapshots"] = False
        whole = stage["epochs"]
        stage["epochs"] = min(epochs, whole)
        warm = stage["schedule"].get("warmup_epochs", 0)
        stage["schedule"]["warmup_epochs"] = warm * stage["epochs"] / whole
        yield (
            f"Stage {i}: {stage['epochs']} epochs instead of {whole}, with the whole schedule of the "
            "learning rate in them."
        )


def _cut_data(document: dict[str, Any], subset: int) -> Generator[str, None, None]:
    data = document["data"]
    data["subset"] = min(data["subset"] or subset, subset)
    yield f"At most {data['subset']} images of the training part."
    if data["validation"] < VALIDATION:
        data["validation"] = VALIDATION
        yield f"{percent(VALIDATION)} of them held out as the validation part, to judge by."


def _setting(stage: dict[str, Any], j: int) -> Setting:
    method = stage["methods"][j]
    return Setting(
        method["method"],
        float(method["temperature"]),
        float(method["weight"]),
        float(stage["label_weight"]),
    )


def _grid(own: Setting) -> Iterator[Setting]:
    """Every temperature with every share; the sum of both weights is that of the recipe."""
    total = (own.weight + own.label_weight) or 1.0
    for share in SHARES:
        for temperature in TEMPERATURES:
            weight = round(share * total, 6)
            yield Setting(own.method, temperature, weight, round(total - weight, 6))


def _allowed(setting: Setting, knobs: dict[str, Knob], labels: Knob) -> bool:
    return (
        knobs["temperature"].problem(setting.temperature) is None
        and knobs["weight"].problem(setting.weight) is None
        and labels.problem(setting.label_weight) is None
    )


def _rival(stage: dict[str, Any], j: int, name: str, setting: Setting) -> dict[str, Any]:
    methods = [dict(method) for method in stage["methods"]]
    methods[j] |= {"temperature": setting.temperature, "weight": setting.weight}
    return {"name": name, "label_weight": setting.label_weight, "methods": methods}
