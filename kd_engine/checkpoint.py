"""Save a run in motion and read it back: one self-contained file, so that a kill leaves the old one or the
new one.

`resume.pt` holds plain tensors and values only and is read with `weights_only=True`: opening it runs no
code.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from kd_engine.errors import StoreError
from kd_engine.events import CheckpointSaved, Event, KnobChanged
from kd_engine.store import RESUME, RunFolder

VERSION = 1


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
    CPU, because another number of them adds up in another order.
    """

    progress: Progress
    recipe: dict[str, Any]
    students: dict[str, Any]
    threads: int


def save(run: RunFolder, checkpoint: Checkpoint) -> tuple[Path, float]:
    """Write it whole; returns the file and the milliseconds it took."""
    started = time.perf_counter()
    content = {"version": VERSION, **vars(checkpoint), "progress": asdict(checkpoint.progress)}
    path = run.write(RESUME, lambda temporary: torch.save(content, temporary))
    return path, (time.perf_counter() - started) * 1000


def load(run: RunFolder) -> Checkpoint:
    """The last checkpoint. StoreError when there is none, or when it cannot be read."""
    path = run.path(RESUME)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise StoreError(f"{run.name}: nothing to resume from: it has no {RESUME}.") from None
    except Exception as error:  # torch raises many kinds for a file that is not one
        raise StoreError(f"{path}: not a readable checkpoint ({type(error).__name__}).") from error
    if content.get("version", 0) > VERSION:
        raise StoreError(f"{path}: made by a newer version of kd-studio.", "Update kd-studio to resume it.")
    return Checkpoint(
        progress=Progress(**content["progress"]),
        recipe=content["recipe"],
        students=content["students"],
        threads=content["threads"],
    )


def changes_after(run: RunFolder, checkpoint: Checkpoint) -> list[tuple[int, str, Any]]:
    """The live changes, as (step, path, value), that were made after a checkpoint and are not in it.

    A run that was killed makes them again at the same steps. Several attempts may have logged the same
    change.
    """
    later: list[Event] = []
    for event in run.raw_events():
        if isinstance(event, CheckpointSaved) and event.step == checkpoint.progress.step:
            later = []
        later.append(event)
    changes = [(c.step, c.path, c.new) for c in later if isinstance(c, KnobChanged)]
    return list(dict.fromkeys(change for change in changes if change[0] >= checkpoint.progress.step))
