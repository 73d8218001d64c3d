"""What the study consists of: its cells, and the ledger of those that are done.

The settings are the recipes in the folder beside this file, the contenders its contenders.json; only those
marked so take part on CIFAR-10. A cell is one contender with one seed in one setting: one run on one CPU
thread.
"""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECIPES = Path(__file__).parent / "recipes"
CELLS = Path(__file__).parents[2] / "docs" / "study" / "cells.jsonl"
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


def cells() -> Iterator[Cell]:
    """Every cell of the study, in the order in which they are run: seed by seed, and slow ones last, so that
    a study that was broken off has something of everything."""
    found = list(_cells())
    yield from (cell for cell in found if not cell.slow)
    yield from (cell for cell in found if cell.slow)


def _cells() -> Iterator[Cell]:
    contenders: dict[str, dict[str, Any]] = json.loads((RECIPES / "contenders.json").read_text())
    for setting, seeds in SEEDS.items():
        base = json.loads((RECIPES / f"{setting}.json").read_text())
        for seed in range(seeds):
            for name, contender in contenders.items():
                if contender.get("cifar10", False) or not setting.startswith("cifar10"):
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
        first["optimizer"]["lr"] = contender.get("first_lr", first["optimizer"]["lr"])
        made["stages"].insert(0, first)
    if "assistant" in contender:
        made["stages"].insert(0, {**deepcopy(stage), "student": {"model": contender["assistant"]}})
        stage["taught_by"] = "previous"
    if contender.get("born_again"):
        kept = {name: value for name, value in stage.items() if name not in ("label_weight", "methods")}
        made["stages"].insert(0, {**deepcopy(kept), "stage": "train"})
        stage |= {"taught_by": "previous", "start": "fresh"}
    return made


def files_of(asked: Namespace) -> dict[str, str]:
    """What stands for CIFAR10 and TEACHER, from the options --cifar and --teacher; nothing without both."""
    if not (asked.cifar and asked.teacher):
        return {}
    return {"CIFAR10": str(asked.cifar), "TEACHER": str(asked.teacher)}


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
