"""A store for benchmarks: copies of one real run, and one whose log is as long as one wants.

Names, figures and losses are changed, so that no two runs are alike; formats and sizes are those of the real
run.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kd_engine import events as e
from kd_engine.document import read_document, set_at
from kd_engine.store import EVENTS, RECIPE, SUMMARY, RunFolder
from kd_gui import screenshots

REPORTS_PER_EPOCH = 500
SHARED = (".safetensors", ".npz", ".pt")  # large, and never written to again: linked, not copied


def train(runs: Path) -> Path:
    """A short run of the first preset; its folder. Errors: see kd_gui.screenshots.train."""
    document = read_document("quickstart")
    set_at(document, "stages.0.epochs", 2)
    set_at(document, "data.subset", 256)
    return screenshots.train(document, runs)


def fill(root: Path, run: Path, count: int) -> None:
    """`count` runs like `run` in a new folder `root`, made a second apart."""
    draw = random.Random(0)
    files = [path for path in run.rglob("*") if path.is_file()]
    for i in range(count):
        folder = root / f"2026-11-20_made-{i:05d}_{draw.randrange(1 << 16):04x}"
        for file in files:
            target = folder / file.relative_to(run)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(file, target) if file.suffix in SHARED else shutil.copy(file, target)
        log = folder / EVENTS
        log.write_bytes(log.read_bytes().replace(run.name.encode(), folder.name.encode()))
        recipe, summary = (json.loads((folder / name).read_text()) for name in (RECIPE, SUMMARY))
        recipe["name"] = f"{recipe['name']}, made {i}"
        summary |= {"name": recipe["name"], "run": folder.name, "retention": draw.random()}
        summary["students"]["student"]["top1_test_best"] = draw.random()
        for name, data in ((RECIPE, recipe), (SUMMARY, summary)):
            (folder / name).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        os.utime(folder / RECIPE, (1.8e9 + i, 1.8e9 + i))


def part_of(root: Path, store: Path, count: int) -> Path:
    """A new folder `root` that holds the first `count` runs of `store`."""
    root.mkdir()
    for folder in sorted(store.iterdir())[:count]:
        (root / folder.name).symlink_to(folder, target_is_directory=True)
    return root


def long_run(root: Path, run: Path, count: int) -> Path:
    """A copy of `run` whose log has `count` events, as of many short epochs; its folder."""
    folder = root / "2026-11-20_long_0000"
    shutil.copytree(run, folder)
    lines = (json.dumps(e.to_json(event), separators=(",", ":")) for event in _long(run, folder.name, count))
    (folder / EVENTS).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def _long(run: Path, name: str, count: int) -> Iterator[e.Event]:
    told = list(RunFolder(run).events())
    stage = next(event for event in told if isinstance(event, e.StageStarted))
    reports = {event.student: event for event in told if isinstance(event, e.StepDone)}
    ends = {event.student: event for event in told if isinstance(event, e.EpochDone)}
    saved = next(event for event in told if isinstance(event, e.CheckpointSaved))
    before = told[: told.index(stage)]
    after = [event for event in told[told.index(stage) + 1 :] if isinstance(event, (e.Evaluated, e.RunDone))]
    a_step = len(stage.students)
    an_epoch = REPORTS_PER_EPOCH * a_step + a_step + 1
    room = count - len(before) - 1 - len(after)
    epochs = max(room // an_epoch, 1)
    yield from (replace(event, run=name) if isinstance(event, e.RunStarted) else event for event in before)
    yield replace(stage, epochs=epochs, steps_per_epoch=REPORTS_PER_EPOCH)
    draw = random.Random(0)
    for epoch in range(epochs):
        for step in range(epoch * REPORTS_PER_EPOCH + 1, (epoch + 1) * REPORTS_PER_EPOCH + 1):
            time = stage.time + 0.05 * step
            for student in stage.students:
                yield _report(reports[student], epoch, step, time, draw)
        for student in stage.students:
            yield replace(ends[student], time=time, epoch=epoch + 1, step=step)
        yield replace(saved, time=time, epoch=epoch + 1, step=step)
    yield from (replace(event, run=name) if isinstance(event, e.RunDone) else event for event in after)


def _report(like: e.StepDone, epoch: int, step: int, time: float, draw: random.Random) -> e.StepDone:
    return replace(
        like,
        time=time,
        epoch=epoch,
        step=step,
        loss=_near(like.loss, draw),
        terms=_all_near(like.terms, draw),
        weighted=_all_near(like.weighted, draw),
        samples_per_s=_near(like.samples_per_s, draw),
    )


def _all_near(values: Mapping[str, float], draw: random.Random) -> dict[str, Any]:
    return {name: _near(value, draw) for name, value in values.items()}


def _near(value: float, draw: random.Random) -> float:
    return value * (0.8 + 0.4 * draw.random())
