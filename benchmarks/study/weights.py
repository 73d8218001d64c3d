"""Does a method trail because it drowns the labels? Some of them, at a tenth of their published weight.

    python -m benchmarks.study.weights [--cifar FOLDER --teacher FILE] [--jobs 2]

Methods that were below plain training, on the first seed; all else is as in the study. Written to
docs/study/weights.json for its page.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

from benchmarks.study.cells import CELLS, Cell, cells, files_of
from benchmarks.study.run import alone, run_cell
from kd_engine.registry import find

FILE = CELLS.parent / "weights.json"
SHARE, SEEDS = 0.1, 1
WHO = {"scenes": ("dkd", "rkd"), "cifar10-resnet8": ("dkd",)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cifar", type=Path)
    parser.add_argument("--teacher", type=Path)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    files = files_of(asked)
    todo = [cell for cell in lighter() if files or not cell.setting.startswith("cifar10")]
    found: dict[str, dict[str, dict[int, float | None]]] = defaultdict(lambda: defaultdict(dict))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(asked.jobs, context, initializer=alone) as pool:
        waiting = {pool.submit(run_cell, cell, files): cell for cell in todo}
        for future in as_completed(waiting):
            cell, told = waiting[future], future.result()
            found[cell.setting][cell.contender][cell.seed] = told.get("top1")
            print(f"{cell.name}: {told.get('top1', told['status'])}", flush=True)
    text = json.dumps({"share": SHARE, "top1": found}, indent=1, sort_keys=True)
    FILE.write_text(text + "\n", encoding="utf-8")
    print(f"wrote {FILE}; python -m benchmarks.study.report takes it into the page")


def lighter() -> Iterator[Cell]:
    """The cells of the study, with the methods at a share of their weights."""
    for cell in cells():
        if cell.contender in WHO.get(cell.setting, ()) and cell.seed < SEEDS:
            made = deepcopy(cell.recipe)
            for method in made["stages"][-1]["methods"]:
                published = find("methods", method["method"]).Knobs().weight
                method["weight"] = SHARE * method.get("weight", published)
            yield replace(cell, recipe=made)


if __name__ == "__main__":
    main()
