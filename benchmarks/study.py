"""Which methods help, and by how much? Every method against plain training and against kd, over seeds.

    python -m benchmarks.study [--cifar FOLDER --teacher FILE] [--only TEXT] [--jobs 2] [--again]

The settings are the recipes in benchmarks/recipes, the contenders benchmarks/recipes/contenders.json. FOLDER
holds CIFAR-10 as train/CLASS/*.png and test/CLASS/*.png, FILE a published CIFAR-10 resnet56; without them the
two CIFAR-10 settings are left out. A cell is one contender with one seed in one setting: one run on one CPU
thread. Cells that are done stand in docs/study/cells.jsonl and are not run again, unless asked to with
--again, which compares. Then docs/study.md is written with its pictures.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CELLS = HERE.parent / "docs" / "study" / "cells.jsonl"
SEEDS = {"digits": 5, "cifar10-resnet8": 3, "scenes": 5, "cifar10-resnet20": 3}
PLAIN = "plain"


@dataclass(frozen=True)
class Cell:
    """One run. recipe: with the words CIFAR10 and TEACHER for files, so that it reads the same everywhere."""

    setting: str
    contender: str
    seed: int
    recipe: dict[str, Any]
    slow: bool = False

    @property
    def name(self) -> str:
        return f"{self.setting}/{self.contender}/{self.seed}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cifar", type=Path)
    parser.add_argument("--teacher", type=Path)
    parser.add_argument("--only", default="", help="cells whose SETTING/CONTENDER/SEED holds this text")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--again", action="store_true", help="run cells that are done once more, and compare")
    asked = parser.parse_args()
    files = (
        {"CIFAR10": str(asked.cifar), "TEACHER": str(asked.teacher)} if asked.cifar and asked.teacher else {}
    )
    done = read_cells()
    todo = [
        cell
        for cell in cells()
        if asked.only in cell.name
        and (files or not cell.setting.startswith("cifar10"))
        and (asked.again == (done.get(cell.name, {}).get("recipe") == cell.recipe))
    ]
    print(f"{len(todo)} cells to run, {len(done)} done before")
    differing = run_all(todo, files, asked.jobs, done if asked.again else None)
    if asked.again:
        print(f"{len(todo) - differing} of {len(todo)} cells gave the same figures again, bit for bit")
        raise SystemExit(1 if differing else 0)
    from benchmarks.study_report import write  # reads what was just written

    write(read_cells())


def cells() -> Iterator[Cell]:
    """Every cell of the study, in the order in which they are run: seed by seed, and slow ones last, so that
    a study that was broken off has something of everything."""
    found = list(_cells())
    yield from (cell for cell in found if not cell.slow)
    yield from (cell for cell in found if cell.slow)


def _cells() -> Iterator[Cell]:
    contenders: dict[str, dict[str, Any]] = json.loads((HERE / "recipes" / "contenders.json").read_text())
    for setting, seeds in SEEDS.items():
        base = json.loads((HERE / "recipes" / f"{setting}.json").read_text())
        for seed in range(seeds):
            for name, contender in contenders.items():
                if (
                    setting.startswith("cifar10")
                    and name != PLAIN
                    and setting not in contender.get("cifar10", ())
                ):
                    continue
                made = recipe(base, name, contender, seed)
                yield Cell(setting, name, seed, made, contender.get("slow", False))


def recipe(base: Mapping[str, Any], name: str, contender: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The recipe of a cell. Methods with a first stage spend a quarter of the epochs on it; an assistant and
    each generation get all epochs each, so those cost more."""
    made = deepcopy(dict(base))
    made["name"], made["seed"] = f"{base['name']}: {name}", seed
    (stage,) = made["stages"]
    stage |= {"label_weight": contender["label_weight"], "methods": deepcopy(contender["methods"])}
    if contender.get("stage") == "mutual":
        stage["stage"] = "mutual"
    if "first" in contender:
        epochs = stage["epochs"]
        first = {**deepcopy(stage), "label_weight": 0.0, "methods": deepcopy(contender["first"])}
        first["epochs"], stage["epochs"] = max(1, epochs // 4), epochs - max(1, epochs // 4)
        made["stages"].insert(0, first)
    if "assistant" in contender:
        made["stages"].insert(0, {**deepcopy(stage), "student": {"model": contender["assistant"]}})
        stage["taught_by"] = "previous"
    if contender.get("born_again"):
        kept = {name: value for name, value in stage.items() if name not in ("label_weight", "methods")}
        made["stages"].insert(0, {**deepcopy(kept), "stage": "train"})
        stage |= {"taught_by": "previous", "start": "fresh"}
    return made


def run_all(todo: list[Cell], files: Mapping[str, str], jobs: int, before: Mapping[str, Any] | None) -> int:
    """Run the cells; each is written down when it is done, or compared with `before`. Returns how many
    differ."""
    started, differing = time.monotonic(), 0
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=_alone) as pool:
        waiting = {pool.submit(run_cell, cell, dict(files)): cell for cell in todo}
        for count, future in enumerate(as_completed(waiting), 1):
            cell, told = waiting[future], future.result()
            same = ""
            if before is not None:
                equal = _timeless(before[cell.name]["figures"]) == _timeless(told)
                same, differing = (" same" if equal else " DIFFERS"), differing + (not equal)
            elif not told["status"].startswith("failed"):
                append(cell, told)
            left = (time.monotonic() - started) / count * (len(todo) - count) / 60
            print(f"{cell.name}: {told.get('top1', told['status'])}{same}; {left:.0f} min left", flush=True)
    return differing


def run_cell(cell: Cell, files: Mapping[str, str]) -> dict[str, Any]:
    """One run from its start to its end, in a folder that is thrown away: what came of it."""
    from kd_engine import Recipe, Session
    from kd_engine import events as e
    from kd_engine.commands import Stop
    from kd_engine.errors import KdError

    document = placed(cell.recipe, files)
    curve: list[float] = []
    with tempfile.TemporaryDirectory() as runs:
        try:
            session = Session(Recipe.from_document(document), runs)
        except KdError as error:
            return {"status": f"failed: {error}", "curve": curve}
        for event in session:
            if isinstance(event, e.EpochDone) and event.student == e.STUDENT:
                curve.append(event.validation["top1"])
            elif isinstance(event, e.Paused) and event.why == "nan":
                session.send(Stop(keep=True))
    if isinstance(event, e.RunDone):
        student = event.summary["students"][e.STUDENT]
        return {
            "status": "done",
            "top1": student["top1_test_last"],
            "best": student["top1_test_best"],
            "agreement": student.get("agreement"),
            "teacher": event.summary["teacher"]["top1_test"],
            "parameters": student["parameters"],
            "curve": curve,
            "seconds": round(event.summary["seconds"], 1),
        }
    return {"status": "nan" if isinstance(event, e.RunStopped) else f"failed: {event}", "curve": curve}


def placed(recipe: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
    """A recipe with this machine's files in it."""
    document: dict[str, Any] = json.loads(json.dumps(recipe))
    if "path" in document["data"]:
        document["data"]["path"] = files["CIFAR10"]
    if document["teacher"]["weights"] == "TEACHER":
        document["teacher"]["weights"] = files["TEACHER"]
    return document


def read_cells() -> dict[str, dict[str, Any]]:
    """The cells that are done, by name."""
    if not CELLS.exists():
        return {}
    found = [json.loads(line) for line in CELLS.read_text(encoding="utf-8").splitlines() if line.strip()]
    return {f"{cell['setting']}/{cell['contender']}/{cell['seed']}": cell for cell in found}


def append(cell: Cell, figures: Mapping[str, Any]) -> None:
    CELLS.parent.mkdir(parents=True, exist_ok=True)
    named = {"setting": cell.setting, "contender": cell.contender, "seed": cell.seed}
    line = {**named, "recipe": cell.recipe, "figures": dict(figures)}
    with CELLS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _timeless(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in figures.items() if name != "seconds"}


def _alone() -> None:
    """A worker computes on one thread, as the recipes say, and ends with the one who waits for it."""
    import torch

    torch.set_num_threads(1)
    parent = os.getppid()

    def end_with(parent: int) -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=end_with, args=(parent,), daemon=True).start()


if __name__ == "__main__":
    main()
