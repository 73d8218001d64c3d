"""Which methods help, and by how much? Every method against plain training and against kd, over seeds.

    python -m benchmarks.study [--cifar FOLDER --teacher FILE] [--only TEXT] [--jobs 2] [--again]

What is run is said in benchmarks.study.cells. FOLDER holds CIFAR-10 as train/CLASS/*.png and
test/CLASS/*.png, FILE a published CIFAR-10 resnet56; without them the two CIFAR-10 settings are left out.
Cells that are done stand in docs/study/cells.jsonl and are not run again, unless asked to with --again, which
compares. Then docs/study.md is written with its pictures.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from benchmarks.study import report
from benchmarks.study.cells import cells, files_of, read_cells
from benchmarks.study.run import run_all


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cifar", type=Path)
    parser.add_argument("--teacher", type=Path)
    parser.add_argument("--only", default="", help="cells whose SETTING/CONTENDER/SEED holds this text")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--again", action="store_true", help="run cells that are done once more, and compare")
    asked = parser.parse_args()
    files = files_of(asked)
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
    report.write(read_cells())


if __name__ == "__main__":
    main()
