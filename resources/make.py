"""Make the bundled teachers and the first pictures of the window again, from their recipes.

    python resources/make.py teachers    trains each teachers/NAME.json; writes NAME.safetensors and its card
    python resources/make.py lens        what each recipe's teacher says of a few pictures: lens/RECIPE.npz

A lens file is a samples.npz as a run has it (see kd_engine.snapshots), for the window before its engine runs.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from kd_engine import Recipe, Session, answers
from kd_engine.document import preset_files, read_document
from kd_engine.events import EpochDone, RunDone

HERE = Path(__file__).resolve().parent


def make_teachers() -> None:
    for recipe in sorted((HERE / "teachers").glob("*.json")):
        with tempfile.TemporaryDirectory() as runs:
            session = Session(Recipe.load(recipe), runs)
            for event in session:
                if isinstance(event, EpochDone):
                    print(recipe.stem, "epoch", event.epoch, event.validation, flush=True)
            if not isinstance(event, RunDone):
                raise SystemExit(f"{recipe}: {event}")
            told = answers.export(event.run, Path(runs), "safetensors", recipe.with_suffix(".safetensors"))
            card = Path(told["card_path"])
            card.write_text(card.read_text(encoding="utf-8").replace(f"{HERE.parent}/", ""), encoding="utf-8")
            print(told["path"], told["bytes"], "bytes")


def make_lens() -> None:
    folder = HERE / "lens"
    folder.mkdir(exist_ok=True)
    for name in preset_files():
        told = answers.describe(read_document(name))
        if told["problems"]:
            raise SystemExit(f"{name}: {told['problems']}")
        with np.load(told.pop("samples")) as arrays:
            small = {key: _small(value) for key, value in arrays.items()}
        path = folder / f"{name}.npz"
        np.savez_compressed(path, **small)
        print(path, path.stat().st_size, "bytes")


def _small(array: np.ndarray) -> np.ndarray:
    """Floats in half the bytes: they are only drawn."""
    return array.astype(np.float16) if array.dtype.kind == "f" else array


if __name__ == "__main__":
    {"teachers": make_teachers, "lens": make_lens}[sys.argv[1]]()
