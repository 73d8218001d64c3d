"""How hard does each method pull at the student, beside its labels? Written to docs/study/pull.json for the
study.

    python -m benchmarks.study.pull [--cifar FOLDER --teacher FILE]

The figure is the length of the gradient of the methods' weighted losses on the student's own weights over
that of the label loss at weight 1, on one batch, at the student's initial weights. Published weights were
chosen for hundreds of epochs; where they pull many times harder than the labels, few epochs at the same
learning rate are a different matter.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from benchmarks.study.cells import CELLS, cells, files_of, placed
from kd_engine import Recipe
from kd_engine.classroom import Classroom
from kd_engine.data import plan
from kd_engine.errors import KdError
from kd_engine.lesson import LABEL
from kd_engine.schedules import Clock

FILE = CELLS.parent / "pull.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cifar", type=Path)
    parser.add_argument("--teacher", type=Path)
    asked = parser.parse_args()
    files = files_of(asked)
    found: dict[str, dict[str, float]] = {}
    for cell in cells():
        if (
            cell.seed == 0
            and (files or not cell.setting.startswith("cifar10"))
            and cell.recipe["stages"][-1]["methods"]
        ):
            ratio = pull(placed(cell.recipe, files))
            if ratio is not None:
                found.setdefault(cell.setting, {})[cell.contender] = round(ratio, 3)
                print(f"{cell.setting}/{cell.contender}: {ratio:.2f}", flush=True)
    FILE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def pull(document: dict[str, Any]) -> float | None:
    """Of the last stage's methods; None where that stage has peers, or hears a student of the run."""
    stage = document["stages"][-1]
    if stage["stage"] != "distill" or stage.get("taught_by"):
        return None
    room = Classroom(Recipe.from_document(document), Path())
    teacher = room.teacher()
    assert teacher is not None
    last = len(document["stages"]) - 1
    (trainee, *_) = room.trainees(last, room.student(last), teacher)
    (batch, *_) = room.batches("train").stream(
        plan(len(room.data.train), stage["batch_size"], 0, 0, room.data.views)
    )
    batch = batch._replace(inputs=room.backend.lay_out(batch.inputs))
    trainee.set_knobs(room.recipe.document())
    trainee.lesson.weights[LABEL] = 1.0
    trainee.lesson.set_clock(Clock(0.5, 0.5))  # past every warm-up
    losses = trainee.lesson(trainee.hear(batch), teacher.signals(batch), batch.target)
    mine = sum(value for name, value in losses.weighted.items() if name != LABEL)
    weights = [weight for weight in trainee.module.parameters() if weight.requires_grad]
    lengths = [_length(loss, weights) for loss in (mine, losses.weighted[LABEL])]
    trainee.close()
    teacher.close()
    return lengths[0] / lengths[1]


def _length(loss: Any, weights: list[torch.nn.Parameter]) -> float:
    gradients = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
    return float(torch.stack([g.square().sum() for g in gradients if g is not None]).sum().sqrt())


if __name__ == "__main__":
    try:
        main()
    except KdError as error:
        raise SystemExit(str(error)) from None
