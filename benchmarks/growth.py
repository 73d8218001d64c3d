"""How cost grows: an epoch with the size of the data and with rivals, a new run with the runs of the store.

    python -m benchmarks.growth [--images 512] [--times 1,2,4,8,16] [--rivals 5] [--runs 0,250,1000]
                                [--repeats 5]

The figure is what the far end costs over what growth in proportion from the near end would make of it: 1 is
linear, less is better than that. Its points are the medians at all sizes, over that at the near end; the
note tells the slope of a line through them. Epochs are warm ones (see `epoch`), one of each size in turn. A
new run is timed from the making of its session to its first event.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import figures, loops
from benchmarks.epoch import TEMPERATURES, rivals, soft
from benchmarks.figures import Figure
from benchmarks.loops import Epochs, Pair
from kd_engine import Session
from kd_engine.store import Store

TEACHER, STUDENT = "resnet20", "resnet8"
LINEAR = 1.05  # five hundredths for what timings waver


def main() -> None:
    parser = figures.parser(__doc__)
    parser.add_argument("--images", type=int, default=512, help="of the smallest dataset")
    parser.add_argument("--times", default="1,2,4,8,16")
    parser.add_argument("--rivals", type=int, default=len(TEMPERATURES), help="the most students in a run")
    parser.add_argument("--runs", default="0,250,1000")
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    if asked.small:
        asked.images, asked.times, asked.rivals, asked.runs, asked.repeats = 64, "1,2", 2, "0,10", 2
    figures.hand_over(measured(asked), asked.json)


def measured(asked: argparse.Namespace) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        return [
            with_images(asked.images, numbers(asked.times), asked.repeats, Path(folder, "images")),
            with_rivals(2 * asked.images, asked.rivals, asked.repeats, Path(folder, "rivals")),
            with_runs(numbers(asked.runs), asked.repeats, Path(folder, "runs")),
        ]


def with_images(images: int, times: Sequence[int], repeats: int, folder: Path) -> Figure:
    """Datasets of `images` and of so many times as many."""
    makers = {}
    for many in times:
        place = folder / str(many)
        place.mkdir(parents=True)
        pair = Pair(TEACHER, STUDENT, 64, many * images, place).write()
        makers[str(many)] = partial(loops.ours, pair)
    taken = loops.in_turn(makers, repeats)
    return grown("epoch against dataset size", times, [taken[str(many)] for many in times])


def with_rivals(images: int, most: int, repeats: int, folder: Path) -> Figure:
    """Runs of 1 ... `most` students."""
    folder.mkdir(parents=True)
    pair = Pair(TEACHER, STUDENT, 64, images, folder).write()
    counts = range(1, most + 1)
    makers = {str(count): partial(loops.ours, pair, soft(TEMPERATURES[0]), rivals(count)) for count in counts}
    taken = loops.in_turn(makers, repeats)
    return grown("epoch against rivals", counts, [taken[str(count)] for count in counts])


def with_runs(counts: Sequence[int], repeats: int, folder: Path) -> Figure:
    """Stores in which so many runs are already."""
    folder.mkdir(parents=True)
    pair = Pair("resnet8", "resnet8", 64, 64, folder).write()
    makers = {}
    for count in counts:
        place = folder / f"store of {count}"
        place.mkdir()
        fill(Store(place), pair, count)
        makers[str(count)] = partial(new_runs, replace(pair), place)
    taken = loops.in_turn(makers, repeats)
    return grown(
        "a new run against runs in the store",
        [count + 1 for count in counts],
        [taken[str(count)] for count in counts],
    )


def fill(store: Store, pair: Pair, count: int) -> None:
    """So many runs, stopped after their first event."""
    if not count:
        return
    with closing(iter(Session(loops.recipe(pair), store.root))) as events:
        next(events)
    (run,) = store.root.iterdir()
    for number in range(count - 1):
        shutil.copytree(run, run.with_name(f"{run.name}-{number}"))


def new_runs(pair: Pair, place: Path) -> Epochs:
    """Seconds until a run is there; it is removed again."""
    asked = loops.recipe(pair)
    for number in range(10**6):
        started = time.perf_counter()
        session = Session(asked, place)
        with closing(iter(session)) as events:
            next(events)
            seconds = time.perf_counter() - started
        assert session.run is not None
        session.run.delete()
        if number:
            yield seconds


def grown(name: str, sizes: Sequence[int], taken: Sequence[Sequence[float]]) -> Figure:
    """taken: seconds at each size, repeat by repeat."""
    medians = [statistics.median(seconds) for seconds in taken]
    proportion = sizes[-1] / sizes[0]
    found = [last / first / proportion for first, last in zip(taken[0], taken[-1], strict=True)]
    slope, _ = np.polyfit(sizes, medians, 1)
    near, far = (figures.number(1000 * median) for median in (medians[0], medians[-1]))
    note = f"{near} ms at {sizes[0]:,}, {far} ms at {sizes[-1]:,}; slope {figures.number(1000 * slope)} ms"
    points = tuple((float(size), median / medians[0]) for size, median in zip(sizes, medians, strict=True))
    return figures.over(name, found, case="of growth in proportion", must=LINEAR, note=note, points=points)


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
