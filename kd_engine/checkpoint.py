"""Save a run in motion and read it back: one self-contained file, so that a kill leaves the old one or the
new one.

`resume.pt` holds plain tensors and values only and is read with `weights_only=True`: opening it runs no
code.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kd_engine.errors import StoreError
from kd_engine.events import STUDENT, CheckpointSaved, KnobChanged, RunResumed
from kd_engine.packing import pack, unpack
from kd_engine.store import RESUME, RunFolder

VERSION = 3
Content = dict[str, Any]  # of the file
Change = tuple[int, str, Any]  # a live change: made at this step, of the setting at this path, to this value


@dataclass
class Progress:
    """Where a run stands. step: optimizer steps in all; epoch: complete ones in this stage; batch: steps in
    this epoch."""

    stage: int = 0
    epoch: int = 0
    batch: int = 0
    step: int = 0
    seconds: float = 0.0  # of training, over all processes that worked on the run


@dataclass
class Checkpoint:
    """What a run needs to go on as if nothing had happened.

    recipe: with the live values in force. students: by name, what `Trainee.state` gave. threads: of the
    CPU, because another number of them adds up in another order. data: the fingerprint of the training data.
    """

    progress: Progress
    recipe: dict[str, Any]
    students: dict[str, Any]
    threads: int
    data: str = ""


def packed(checkpoint: Checkpoint) -> Content:
    """What is written of it, in memory of its own: what goes on with the original does not change it. Tensors
    are where they were, and nothing here waits for the device."""
    nest, memory = pack({**vars(checkpoint), "progress": asdict(checkpoint.progress)})
    return {"version": VERSION, **nest, "memory": memory}


def save(run: RunFolder, content: Content) -> tuple[Path, float]:
    """Write what `packed` gave whole; returns the file and the milliseconds it took. Its tensors are in the
    host's memory afterwards."""
    started = time.perf_counter()
    content["memory"] = [part.cpu() for part in content["memory"]]
    buffer = io.BytesIO()  # given a file, torch tells of a full disk in a RuntimeError that does not say so
    torch.save(content, buffer)
    path = run.write(RESUME, lambda temporary: temporary.write_bytes(buffer.getbuffer()))
    return path, (time.perf_counter() - started) * 1000


def student_in(content: Content) -> dict[str, Tensor]:
    """The weights of the recipe's student, by their names in the student alone."""
    lesson, prefix = unpack(content["students"][STUDENT]["lesson"], content["memory"]), "student."
    return {name.removeprefix(prefix): value for name, value in lesson.items() if name.startswith(prefix)}


def load(run: RunFolder) -> Checkpoint:
    """The last checkpoint. StoreError when there is none, or when it cannot be read."""
    path = run.path(RESUME)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise StoreError(f"{run.name}: nothing to resume from: it has no {RESUME}.") from None
    except Exception as error:  # torch raises many kinds for a file that is not one
        raise _unreadable(path, type(error).__name__) from error
    if not isinstance(content, dict) or not isinstance(content.get("version"), int):
        raise _unreadable(path, "something else is in it")
    if content["version"] > VERSION:
        raise StoreError(f"{path}: made by a newer version of kd-studio.", "Update kd-studio to resume it.")
    try:
        students = unpack(content["students"], content.get("memory", ()))  # version 1 was not packed
        parts = {name: content[name] for name in ("recipe", "threads")}
        progress, data = Progress(**content["progress"]), content.get("data", "")
        return Checkpoint(progress, students=students, data=data, **parts)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        raise _unreadable(path, f"{error} is not as expected") from error


def changes_after(run: RunFolder, step: int) -> list[Change]:
    """The live changes that were made after the last checkpoint, which was at `step`, and are not in it.

    A run that was killed makes them again at the same steps. Where several attempts were made since, each
    has made again, and logged again, as many of the pending changes as it lived for.
    """
    made: list[Change] = []
    pending: list[Change] = []
    for event in run.raw_events():
        if isinstance(event, CheckpointSaved) and event.step == step:
            made, pending = [], []
        elif isinstance(event, RunResumed):
            made, pending = [], _in_order([*made, *pending])
        elif isinstance(event, KnobChanged) and event.step >= step:
            made.append((event.step, event.path, event.new))
            if pending[:1] == made[-1:]:
                del pending[0]
    return _in_order([*made, *pending])


def _in_order(changes: Iterable[Change]) -> list[Change]:
    return sorted(changes, key=lambda change: change[0])  # those of one step stay in their order


def _unreadable(path: Path, why: str) -> StoreError:
    return StoreError(f"{path}: not a readable checkpoint ({why}).", "Run the recipe anew.")
