"""Run cells of the study in processes of their own: what is sent there cannot be in a package's __main__."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

from benchmarks.study.cells import Cell, append, placed


def run_all(todo: list[Cell], files: Mapping[str, str], jobs: int, before: Mapping[str, Any] | None) -> int:
    """Run the cells; each is written down when it is done, or compared with `before`. Returns how many
    differ."""
    started, differing = time.monotonic(), 0
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=alone) as pool:
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


def _timeless(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in figures.items() if name != "seconds"}


def alone() -> None:
    """The start of a worker: it computes on one thread, as recipes say, and ends with who waits for it."""
    import torch

    torch.set_num_threads(1)
    parent = os.getppid()

    def end_with(parent: int) -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
