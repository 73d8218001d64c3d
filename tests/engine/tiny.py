"""The smallest runs that are still runs: sixty digits, a network of three kilobytes, a second at most."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from kd_engine import events as e
from kd_engine.answers import describe
from kd_engine.commands import SetKnob
from kd_engine.document import set_at
from kd_engine.events import Event
from kd_engine.recipe import Recipe
from kd_engine.registry import find
from kd_engine.session import Session
from kd_engine.store import BEST, LAST, RunFolder

TEMPERATURE = "stages.0.methods.0.temperature"
KD_WEIGHT = "stages.0.methods.0.weight"
LR = "stages.0.optimizer.lr"
VIT = {"model": "vit-tiny", "depth": 2, "width": 16, "heads": 2, "patch": 8}
MODELS: tuple[dict[str, Any], ...] = ({"model": "cnn", "width": 2}, {"model": "resnet8"}, VIT)
PLAIN = {"name": "no KD", "label_weight": 1.0, "methods": []}
PLAN = {"batch_size": 16, "snapshots": False}
STEPS = 3  # in an epoch


def document(teacher: Path | None = None, /, **changes: Any) -> dict[str, Any]:
    """A recipe document, with the weights of a teacher in a file; two epochs of three steps.

    changes: by dotted path, with `__` for the dots.
    """
    distill = {**PLAN, "stage": "distill", "epochs": 2, "methods": [{"method": "kd"}]}
    made: dict[str, Any] = {
        "name": "tiny",
        "seed": 1,
        "data": {"dataset": "digits", "subset": 60, "validation": 0.25, "views": 4},
        "teacher": {"model": "cnn", "width": 2, "weights": None if teacher is None else str(teacher)},
        "student": {"model": "cnn", "width": 2},
        "stages": [distill],
        "hardware": {"device": "cpu", "threads": 1},
    }
    for path, value in changes.items():
        set_at(made, path.replace("__", "."), value)
    return made


def recipe(teacher: Path | None = None, /, **changes: Any) -> Recipe:
    return Recipe.from_document(document(teacher, **changes))


def two_stages(teacher: Path | None = None, /, **changes: Any) -> Recipe:
    """Train on labels, then distil."""
    made = document(teacher, **changes)
    train = {
        "stage": "train",
        "epochs": 1,
        "batch_size": 16,
        "snapshots": False,
        "optimizer": {"name": "adamw"},
    }
    made["stages"].insert(0, train)
    return Recipe.from_document(made)


def teaching(method: str) -> dict[str, Any]:
    """A recipe document with a method, used as its file says that it is: alone, after a first stage of its
    own, or among peers; between the first two of `MODELS` that it can work between."""
    plugin = find("methods", method)
    stage = {**PLAN, "stage": "distill", "epochs": 1, "methods": [{"method": method}]}
    if method == "dml":
        stages = [{**stage, "stage": "mutual"}]
    elif plugin.first_stage is None:
        stages = [stage]
    else:
        first = {**stage, "label_weight": 0.0, "methods": [{"method": method, **plugin.first_stage}]}
        stages = [first, stage if plugin.accompanies else {**stage, "methods": []}]
    for model in MODELS:
        made = document(stages=stages, student=model)
        made["teacher"] = model if plugin.needs_teacher else None
        if method == "multi-teacher":
            made["more_teachers"] = [model]
        if not describe(made)["problems"]:
            return made
    raise AssertionError(f"{method}: works between no two models")


def finish(session: Iterable[Event]) -> list[Event]:
    """All that is left of it; it must end well."""
    told = list(session)
    assert isinstance(told[-1], e.RunDone), told[-1]
    return told


def until(session: Iterable[Event], kind: type[Event], **values: Any) -> list[Event]:
    """What is told up to the first event of a kind, and with such values."""
    told = []
    for event in session:
        told.append(event)
        if isinstance(event, kind) and all(getattr(event, name) == value for name, value in values.items()):
            return told
        assert not isinstance(event, e.ENDS), event
    raise AssertionError(f"no {kind.__name__} with {values}")


def run(made: Recipe, runs: Path, **more: Any) -> RunFolder:
    """Run it to its end."""
    session = Session(made, runs, **more)
    finish(session)
    return folder(session)


def steered(made: Recipe, runs: Path, steer: Callable[[Session, Event], object]) -> RunFolder:
    """Run it to its end, and let `steer` answer every event."""
    session = Session(made, runs)
    for event in session:
        steer(session, event)
    assert isinstance(event, e.RunDone), event
    return folder(session)


def folder(session: Session) -> RunFolder:
    assert session.run is not None
    return session.run


def of(kind: type[Event], told: Iterable[Event]) -> list[Any]:
    return [event for event in told if isinstance(event, kind)]


def weights(run: RunFolder, name: str = LAST) -> dict[str, Tensor]:
    return load_file(run.path(name))


def differing(one: RunFolder, other: RunFolder, name: str = LAST) -> list[str]:
    """The tensors in which two runs' weights differ, bit for bit."""
    ours, theirs = weights(one, name), weights(other, name)
    assert set(ours) == set(theirs)
    return [key for key in ours if not torch.equal(ours[key], theirs[key])]


def figures(run: RunFolder) -> dict[str, Any]:
    """The summary without what the clock says."""

    def timeless(value: Any) -> Any:
        if isinstance(value, dict):
            clock = ("seconds", "latency_ms_p50", "latency_ms_p95", "run")
            return {name: timeless(v) for name, v in value.items() if name not in clock}
        return value

    summary = run.read_json("summary.json")
    assert summary is not None
    return dict(timeless(summary))


def assert_same_run(one: RunFolder, other: RunFolder) -> None:
    """The same weights, last and best, bit for bit, and the same figures."""
    assert differing(one, other) == []
    assert differing(one, other, BEST) == []
    assert figures(one) == figures(other)


def changes(run: RunFolder) -> list[tuple[int, str, Any]]:
    return [(c.step, c.path, c.new) for c in run.events() if isinstance(c, e.KnobChanged)]


def set_temperature(value: float) -> SetKnob:
    return SetKnob(TEMPERATURE, value)


def in_child(work: Callable[[], object]) -> int:
    """Do it in a child process that shares nothing but the disk; returns how it ended, as in waitpid: 0, or
    the number of the signal that killed it. A fork, not a new interpreter: those cost seconds."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return -os.WEXITSTATUS(status) if os.WIFEXITED(status) else os.WTERMSIG(status)


def die() -> None:
    """As from outside: nothing more is done, nothing is said."""
    os.kill(os.getpid(), signal.SIGKILL)
