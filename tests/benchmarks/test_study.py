"""The study of docs/study.md: its recipes are sound, a cell runs, and the page says what the cells say."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from benchmarks.study import report, run, weights
from benchmarks.study.cells import PLAIN, Cell, cells, placed
from kd_engine import catalog, models
from kd_engine.check import check
from kd_engine.registry import find


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """CIFAR-10 and its teacher as the study wants them, one image of a class."""
    folder = tmp_path_factory.mktemp("cifar")
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            (folder / part / name).mkdir(parents=True)
            Image.new("RGB", (32, 32)).save(folder / part / name / "0.png")
    torch.save(models.create("resnet56", 10, 32, shortcut="A").state_dict(), folder / "resnet56.th")
    return {"CIFAR10": str(folder), "TEACHER": str(folder / "resnet56.th")}


FIRST_SEED = [cell for cell in cells() if cell.seed == 0]


@pytest.mark.parametrize("cell", FIRST_SEED, ids=lambda cell: cell.name)
def test_the_recipe_of_every_cell_is_accepted(cell: Cell, files: dict[str, str]) -> None:
    assert check(placed(cell.recipe, files), catalog.load()) == []


def test_each_setting_has_plain_training_and_kd_with_as_many_seeds() -> None:
    for setting in {cell.setting for cell in cells()}:
        seeds = [
            [cell.seed for cell in cells() if (cell.setting, cell.contender) == (setting, name)]
            for name in (PLAIN, "kd")
        ]
        assert seeds[0] == seeds[1]
        assert len(seeds[0]) >= 3


def test_a_first_stage_takes_its_epochs_from_the_second() -> None:
    by_name = {cell.contender: cell for cell in FIRST_SEED if cell.setting == "digits"}
    for name in ("ab", "fsp", "ft"):
        epochs = [stage["epochs"] for stage in by_name[name].recipe["stages"]]
        assert len(epochs) == 2
        assert sum(epochs) == by_name[PLAIN].recipe["stages"][0]["epochs"]


def test_a_cell_runs_in_a_process_of_its_own_and_gives_the_same_figures_again() -> None:
    (cell,) = (cell for cell in FIRST_SEED if cell.name == "digits/kd/0")
    recipe = deepcopy(cell.recipe)
    recipe["data"]["subset"], recipe["stages"][0]["epochs"] = 100, 1
    small = Cell(cell.setting, cell.contender, 0, recipe)
    told = run.run_cell(small, {})
    assert (told["status"], len(told["curve"])) == ("done", 1)
    assert told["teacher"] > 0.9
    assert run.run_all([small], {}, 1, {small.name: {"figures": told}}) == 0
    other = {**told, "top1": told["top1"] + 0.01}
    assert run.run_all([small], {}, 1, {small.name: {"figures": other}}) == 1


def made_up(tmp_path: Path, setting: str = "digits") -> str:
    """The page of: kd 10 points over plain at each of three seeds, at 5 under, hint not a number once."""
    found: dict[str, dict[str, Any]] = {}
    tops = {
        PLAIN: (0.50, 0.52, 0.54),
        "kd": (0.60, 0.62, 0.64),
        "at": (0.45, 0.47, 0.49),
        "fitnet": (0.5, 0.5),
    }
    base = next(cell for cell in FIRST_SEED if cell.name == f"{setting}/plain/0")
    for contender, values in tops.items():
        for seed, top1 in enumerate(values):
            figures = {"status": "done", "top1": top1, "best": top1, "agreement": top1, "teacher": 0.9}
            found[f"{setting}/{contender}/{seed}"] = {
                "setting": setting,
                "contender": contender,
                "seed": seed,
                "recipe": base.recipe,
                "figures": {**figures, "curve": [0.1, top1]},
            }
    lost = {"status": "nan", "curve": [0.1]}
    found[f"{setting}/fitnet/2"] = {**found[f"{setting}/fitnet/1"], "seed": 2, "figures": lost}
    (tmp_path / "study").mkdir(exist_ok=True)
    (tmp_path / "study" / "pull.json").write_text(json.dumps({"digits": {"kd": 2.5}}))
    (tmp_path / "study" / "remarks.md").write_text("## What to make of it\n")
    report.write(found, tmp_path)
    return (tmp_path / "study.md").read_text()


def test_the_page_tells_gains_spreads_and_what_broke(tmp_path: Path) -> None:
    page = made_up(tmp_path)
    (row,) = (line for line in page.splitlines() if line.startswith("| kd |"))
    assert "62.0 ± 2.0" in row
    assert "**+10.0** (+10.0 to +10.0)" in row
    assert row.endswith("| 2.5 |")
    assert "Clearly better than plain training: kd." in page
    assert "Clearly worse: at." in page
    assert "fitnet (1 of 3)" in page
    assert page.rstrip().endswith("## What to make of it")


def test_the_page_has_lighter_methods_beside_the_studys(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    told = {"share": 0.1, "top1": {"scenes": {"kd": {"0": 0.7}}}}
    (tmp_path / "study" / "weights.json").write_text(json.dumps(told))
    assert "| scenes | kd | 50.0 | 60.0 | 70.0 |" in made_up(tmp_path, "scenes")


def test_lighter_methods_are_those_of_cells_of_the_study() -> None:
    lighter = {cell.name: cell.recipe for cell in weights.lighter()}
    assert len(lighter) == sum(map(len, weights.WHO.values())) * weights.SEEDS
    for cell in cells():
        if cell.name in lighter:
            changed = lighter.pop(cell.name)
            (method,) = changed["stages"][-1]["methods"]
            assert 0 < method.pop("weight") < find("methods", method["method"]).Knobs().weight
            assert changed == cell.recipe
    assert not lighter


def test_the_pictures_are_drawn(tmp_path: Path) -> None:
    page = made_up(tmp_path)
    for name in ("digits-gains", "digits-curves"):
        assert f"study/{name}.svg" in page
        assert (tmp_path / "study" / f"{name}.svg").read_text().startswith("<svg")
