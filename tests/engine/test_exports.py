"""What is exported can be used elsewhere, by the lines that are shown, and says what it is."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kd_engine import answers, card, models, weights
from kd_engine.classroom import load_data
from kd_engine.commands import SetKnob
from kd_engine.deploy import Deployed, load_model
from kd_engine.errors import KdError, StoreError
from kd_engine.events import StepDone
from kd_engine.exporters import Exporter
from kd_engine.recipe import Recipe
from kd_engine.registry import discover, find
from kd_engine.session import Session
from kd_engine.store import RunFolder
from tests.engine import tiny

FORMATS = sorted(discover("exporters").plugins)
CARD: dict[str, Any] = {
    "model": "cnn",
    "knobs": {"width": 2},
    "classes": ["a", "b", "c"],
    "input": {"size": 16, "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]},
    "made_with": {"kd-studio": "0"},
}


def export(run: RunFolder, path: Path, which: str = "last") -> dict[str, Any]:
    format = next(name for name in FORMATS if find("exporters", name).suffix == path.suffix)
    return answers.export(run.folder, None, format, path, which)


def suffix(format: str) -> str:
    return str(find("exporters", format).suffix)


@pytest.mark.parametrize("format", FORMATS)
def test_three_lines_load_it_in_a_fresh_interpreter_with_the_same_top1(
    format: str, undisturbed: RunFolder, tmp_path: Path
) -> None:
    told = export(undisturbed, tmp_path / f"it's new{suffix(format)}")
    test = load_data(Recipe.from_document(undisturbed.recipe()).data).test
    np.savez(tmp_path / "test.npz", images=test.images(np.arange(len(test))), labels=test.labels)
    assert len(told["code"].splitlines()) == 3
    script = f"""
import sys, numpy, torch, warnings
warnings.simplefilter("error")
data = numpy.load("test.npz")
images = torch.from_numpy(data["images"]).float() / 255
{told["code"]}
print((scores.argmax(1).numpy() == data["labels"]).mean(), "kd_engine" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    top1, ours = done.stdout.split()
    assert ours == str(format != "pt2")
    summary = undisturbed.read_json("summary.json")
    assert summary is not None
    assert float(top1) == summary["students"]["student"]["top1_test_last"]


@pytest.mark.parametrize("format", FORMATS)
def test_an_export_is_exact_and_its_card_tells_the_code(
    format: str, undisturbed: RunFolder, tmp_path: Path
) -> None:
    told = export(undisturbed, tmp_path / f"student{suffix(format)}", "best")
    assert told["bytes"] == Path(told["path"]).stat().st_size
    markdown = Path(told["card_path"]).read_text(encoding="utf-8")
    assert told["code"] in markdown
    assert sorted(file.name for file in tmp_path.iterdir()) == ["student.md", f"student{suffix(format)}"]


def test_best_and_last_are_the_runs_best_and_last(undisturbed: RunFolder, tmp_path: Path) -> None:
    for which in ("best", "last"):
        export(undisturbed, tmp_path / "student.safetensors", which)
        ours = weights.read_state(tmp_path / "student.safetensors")
        theirs = weights.read_state(undisturbed.path(f"{which}.safetensors"))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
        figures = load_model(tmp_path / "student.safetensors").card["figures"]
        summary = undisturbed.read_json("summary.json")
        assert summary is not None
        assert figures["top1"] == summary["students"]["student"][f"top1_test_{which}"]


@pytest.mark.parametrize("model", ["resnet8", "wrn_10_1", "vit-tiny", "squeezenet1_1"])
@pytest.mark.parametrize("format", FORMATS)
def test_every_family_is_exported_for_any_batch_size_without_a_warning(
    format: str, model: str, tmp_path: Path
) -> None:
    knobs = {"depth": 1, "width": 16, "heads": 2} if model == "vit-tiny" else {}
    made = {**CARD, "model": model, "knobs": knobs, "input": {**CARD["input"], "size": 32}}
    torch.manual_seed(0)
    network = models.create(model, 3, 32, **knobs)
    module = Deployed(network.to(memory_format=torch.channels_last), made).eval()
    file = tmp_path / f"model{suffix(format)}"
    plugin: type[Exporter] = find("exporters", format)
    plugin.export(module, made, file, plugin.Knobs())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # torch's own, on unpickling
        loaded = load_model(file) if format == "safetensors" else torch.export.load(file).module()
    for n in (1, 3):
        images = torch.rand(n, 3, 32, 32)
        with torch.no_grad():
            torch.testing.assert_close(loaded(images), module(images), rtol=1e-4, atol=1e-5)


def test_the_class_names_travel_in_the_program(undisturbed: RunFolder, tmp_path: Path) -> None:
    export(undisturbed, tmp_path / "student.pt2")
    extra = {card.KEY: ""}
    torch.export.load(tmp_path / "student.pt2", extra_files=extra)
    assert json.loads(extra[card.KEY])["classes"] == list("0123456789")


# -- where it goes -------------------------------------------------------------------------------------------


def test_a_run_is_exported_although_its_data_and_its_teacher_are_gone(teacher: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "mine.npz", images=images, labels=np.arange(40) % 10)
    (tmp_path / "teacher.safetensors").write_bytes(teacher.read_bytes())
    document = tiny.document(tmp_path / "teacher.safetensors")
    document["data"] = {"dataset": "arrays", "path": str(tmp_path / "mine.npz")}
    run = tiny.run(Recipe.from_document(document), tmp_path / "runs")
    run.folder.rename(tmp_path / "copied")
    (tmp_path / "mine.npz").unlink()
    (tmp_path / "teacher.safetensors").unlink()
    told = export(RunFolder(tmp_path / "copied"), tmp_path / "student.pt2")
    assert "classes, in this order | 0, 1, 2" in Path(told["card_path"]).read_text()


def test_a_name_without_an_ending_gets_one_and_folders_are_made(
    undisturbed: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = answers.export(undisturbed.folder, None, "safetensors", Path("new/student"))
    assert told["path"] == str(tmp_path / "new" / "student.safetensors")
    monkeypatch.chdir("/")
    namespace: dict[str, Any] = {"images": torch.rand(1, 3, 32, 32)}
    exec(told["code"], namespace)  # from anywhere
    assert namespace["scores"].shape == (1, 10)


def test_a_name_that_is_no_text_is_refused(undisturbed: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(KdError, match="bytes that are no letters"):  # neither Markdown nor safetensors can
        export(undisturbed, tmp_path / "stu\udcffdent.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_text_that_is_no_card_is_never_replaced(undisturbed: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("my own words")
    with pytest.raises(KdError, match="is no model card"):
        export(undisturbed, tmp_path / "README.safetensors")
    assert [file.name for file in tmp_path.iterdir()] == ["README.md"]
    assert (tmp_path / "README.md").read_text() == "my own words"
    for _ in range(2):  # a card of ours is
        export(undisturbed, tmp_path / "student.safetensors")


@pytest.mark.parametrize("format", FORMATS)
def test_a_full_disk_leaves_the_old_export_as_it_was(
    format: str, undisturbed: RunFolder, tmp_path: Path
) -> None:
    resource = pytest.importorskip("resource", reason="limits of a process, as a stand-in for a full disk")
    file = tmp_path / f"student{suffix(format)}"
    export(undisturbed, file)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        with pytest.raises(StoreError, match="cannot be written: File too large"):
            export(undisturbed, file)

    assert tiny.in_child(fail) == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


# -- the card ------------------------------------------------------------------------------------------------


def read_card(run: RunFolder, folder: Path, which: str = "last") -> str:
    told = export(run, folder / "student.safetensors", which)
    return Path(told["card_path"]).read_text(encoding="utf-8")


def test_the_card_tells_figures_with_units_and_on_what_they_were_measured(
    undisturbed: RunFolder, tmp_path: Path
) -> None:
    text = read_card(undisturbed, tmp_path)
    summary = undisturbed.read_json("summary.json")
    assert summary is not None
    student = summary["students"]["student"]
    assert f"| accuracy (top-1) | {student['top1_test_last']:.2%} ± " in text
    assert f"| parameters | {student['parameters']:,} |" in text
    assert " ms |" in text
    assert "360 images of the test part" in text
    assert "Trained on digits: 45 images, all of them with their label. 15 more were held out" in text
    assert "distilled from cnn" in text
    assert "These are its last weights, after 2 of 2 epochs." in text
    assert text.count("\n| 9 | ") == 1  # a row for each class
    assert "nan" not in text
    assert "None" not in text


def test_the_card_of_the_best_epoch_says_which(undisturbed: RunFolder, tmp_path: Path) -> None:
    summary = undisturbed.read_json("summary.json")
    assert summary is not None
    epoch = summary["best_validation"]["student"]["epoch"]
    assert f"the weights after epoch {epoch}, the best on the validation part" in read_card(
        undisturbed, tmp_path, "best"
    )


def test_the_recipe_in_the_card_repeats_the_run(undisturbed: RunFolder, tmp_path: Path) -> None:
    text = read_card(undisturbed, tmp_path)
    written = json.loads(text.split("```json\n")[1].split("```")[0])
    assert Recipe.from_document(written) == Recipe.from_document(undisturbed.recipe())


def test_the_card_of_a_run_that_was_stopped_and_changed_by_hand_says_so(
    teacher: Path, tmp_path: Path
) -> None:
    session = Session(tiny.recipe(teacher), tmp_path / "runs")
    tiny.until(session, StepDone)
    session.send(SetKnob(tiny.TEMPERATURE, 8.0))
    tiny.until(session, StepDone)
    session._stream.close()  # type: ignore[attr-defined]
    text = read_card(tiny.folder(session), tmp_path)
    assert "Not measured on a test part" in text
    assert f"{tiny.TEMPERATURE} from 4.0 to 8.0" in text


def test_names_with_the_tables_own_signs_do_not_break_the_table() -> None:
    text = card.to_markdown({**CARD, "classes": ["a|b", "c\nd", "ü"]}, "code")
    [row] = [line for line in text.splitlines() if line.startswith("| classes")]
    assert row == "| classes, in this order | a\\|b, c d, ü |"
