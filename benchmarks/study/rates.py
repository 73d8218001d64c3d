"""Does a method trail because it pulls too hard for the learning rate? Some of scenes, at a fifth of it.

    python -m benchmarks.study.rates [--jobs 2]

Those that were below plain training, with plain training and kd, on the first seeds, at a learning rate of
0.01 where the study has 0.05; all else is as in the study. Written to docs/study/rates.json for its page.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from copy import deepcopy
from dataclasses import replace

from benchmarks.study.cells import CELLS, PLAIN, Cell, cells
from benchmarks.study.run import alone, run_cell

FILE = CELLS.parent / "rates.json"
SETTING, RATE, SEEDS = "scenes", 0.01, 2
WHO = (PLAIN, "kd", "dkd", "dist", "mlkd", "rkd", "pkt", "sp", "crd", "prototype")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    found: dict[str, dict[int, float | None]] = {name: {} for name in WHO}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(asked.jobs, context, initializer=alone) as pool:
        waiting = {pool.submit(run_cell, cell, {}): cell for cell in slowed()}
        for future in as_completed(waiting):
            cell, told = waiting[future], future.result()
            found[cell.contender][cell.seed] = told.get("top1")
            print(f"{cell.name}: {told.get('top1', told['status'])}", flush=True)
    in_order = {name: dict(sorted(by_seed.items())) for name, by_seed in found.items()}
    FILE.write_text(json.dumps({"lr": RATE, "top1": in_order}, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {FILE}; python -m benchmarks.study.report takes it into the page")


def slowed() -> Iterator[Cell]:
    """The cells of the study, at the other learning rate."""
    for cell in cells():
        if cell.setting == SETTING and cell.contender in WHO and cell.seed < SEEDS:
            made = deepcopy(cell.recipe)
            for stage in made["stages"]:
                stage["optimizer"]["lr"] = RATE
            yield replace(cell, recipe=made)


if __name__ == "__main__":
    main()
