"""Does a method trail because it pulls too hard for the learning rate? Some of them, at a fifth of it.

    python -m benchmarks.study.rates [--cifar FOLDER --teacher FILE] [--jobs 2]

Those that were below plain training, with plain training and kd, on the first seed, at a learning rate of
0.01 where the study has 0.05; all else is as in the study. Written to docs/study/rates.json for its page.
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

from benchmarks.study.cells import CELLS, PLAIN, Cell, cells, files_of
from benchmarks.study.run import alone, run_cell

FILE = CELLS.parent / "rates.json"
RATE, SEEDS = 0.01, 1
WHO = {
    "scenes": (PLAIN, "kd", "dkd", "dist", "rkd", "pkt", "sp"),
    "cifar10-resnet8": (PLAIN, "dkd"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cifar", type=Path)
    parser.add_argument("--teacher", type=Path)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    files = files_of(asked)
    todo = [cell for cell in slowed() if files or not cell.setting.startswith("cifar10")]
    found: dict[str, dict[str, dict[int, float | None]]] = defaultdict(lambda: defaultdict(dict))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(asked.jobs, context, initializer=alone) as pool:
        waiting = {pool.submit(run_cell, cell, files): cell for cell in todo}
        for future in as_completed(waiting):
            cell, told = waiting[future], future.result()
            found[cell.setting][cell.contender][cell.seed] = told.get("top1")
            print(f"{cell.name}: {told.get('top1', told['status'])}", flush=True)
    text = json.dumps({"lr": RATE, "top1": found}, indent=1, sort_keys=True)
    FILE.write_text(text + "\n", encoding="utf-8")
    print(f"wrote {FILE}; python -m benchmarks.study.report takes it into the page")


def slowed() -> Iterator[Cell]:
    """The cells of the study, at the other learning rate."""
    for cell in cells():
        if cell.contender in WHO.get(cell.setting, ()) and cell.seed < SEEDS:
            made = deepcopy(cell.recipe)
            for stage in made["stages"]:
                stage["optimizer"]["lr"] = RATE
            yield replace(cell, recipe=made)


if __name__ == "__main__":
    main()
