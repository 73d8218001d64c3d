"""What is known of a run is told without measuring; what is not is measured once, and kept beside it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, recall_score

from kd_engine import answers, evaluate, examination, store
from kd_engine import events as e
from kd_engine.classroom import Classroom
from kd_engine.corruptions import CORRUPTIONS
from kd_engine.errors import KdError, StoreError
from kd_engine.examination import MEASURED, ROBUST
from kd_engine.recipe import Recipe
from kd_engine.session import Session
from kd_engine.store import RunFolder
from tests.engine import tiny

ALL = ["teacher/last", "student/last", "student/best", "no KD/last"]
pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def made(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    recipe = tiny.recipe(teacher, stages__0__rivals=[tiny.PLAIN], stages__0__snapshots=True)
    return tiny.run(recipe, tmp_path_factory.mktemp("examined"))


@pytest.fixture
def run(made: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy, to be written to."""
    shutil.copytree(made.folder, tmp_path / made.name)
    return RunFolder(tmp_path / made.name)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many samples were asked of a model, pass by pass."""
    counts: list[int] = []
    predict = evaluate.predict
    monkeypatch.setattr(
        evaluate, "predict", lambda m, b, *more: (counts.append(len(b)), predict(m, b, *more))[1]
    )
    return counts


def rewrite(run: RunFolder, change: Any) -> None:
    written = json.loads(run.path("evaluation.json").read_text())
    for metrics in written.values():
        change(metrics)
    run.write_json("evaluation.json", written)


# -- a finished run ------------------------------------------------------------------------------------------


def test_what_a_run_measured_is_told_without_asking_a_model(run: RunFolder, passes: list[int]) -> None:
    before = sorted(path.name for path in run.folder.iterdir())
    told = answers.evaluate(run.folder)
    written = run.read_json("evaluation.json")
    assert written is not None
    assert passes == []
    assert list(told["models"]) == ALL
    for name, metrics in told["models"].items():
        assert {figure: metrics[figure] for figure in written[name]} == written[name]
        assert {*examination.OWN, *examination.CLOSE, *ROBUST} <= set(metrics)
        assert [metrics[figure] for figure in ROBUST] == [None] * 5
    assert told["models"]["teacher/last"]["gaps"] is None
    assert told["classes"] == list("0123456789")
    assert told["notes"] == []
    assert sorted(path.name for path in run.folder.iterdir()) == before
    json.dumps(told, allow_nan=False)


def test_the_answer_is_about_the_weights_that_are_stored(run: RunFolder, teacher: Path) -> None:
    told = answers.evaluate(run.folder)["models"]
    room = Classroom(Recipe.from_document(run.recipe()), run.folder.parent)
    batches = room.batches("test")
    labels = batches.subset.labels
    student = room.student().module
    student.load_state_dict(tiny.weights(run))
    known = room.teacher()
    assert known is not None
    said, taught = (
        evaluate.predict(module, batches, room.backend).argmax(1) for module in (student, known.module)
    )
    last = told["student/last"]
    assert last["top1"] == accuracy_score(labels, said)
    assert last["agreement"] == accuracy_score(taught, said)
    assert last["retention"] == pytest.approx(accuracy_score(labels, said) / accuracy_score(labels, taught))
    recall_s, recall_t = (recall_score(labels, x, average=None, zero_division=0) for x in (said, taught))
    assert last["gaps"] == pytest.approx(list(recall_s - recall_t))
    assert sum(found["count"] for found in last["calibration"]) == last["samples"] == len(labels)


def test_robustness_is_measured_when_first_asked_for_and_then_known(
    run: RunFolder, passes: list[int]
) -> None:
    first = answers.evaluate(run.folder, robust=True)["models"]
    assert passes == [360] * 15  # three models, clean and four times spoilt
    assert list(first) == ALL
    for name in ALL[:3]:
        each = [first[name][f"top1_{corruption}"] for corruption in CORRUPTIONS]
        assert first[name]["top1_corrupted"] == pytest.approx(np.mean(each))
    assert first["no KD/last"]["top1_corrupted"] is None
    assert answers.evaluate(run.folder, robust=True)["models"] == first
    assert len(passes) == 15


def test_what_the_run_said_at_its_end_is_never_written_over(run: RunFolder) -> None:
    before = run.path("evaluation.json").read_bytes()
    answers.evaluate(run.folder, robust=True)
    answers.evaluate_run(run.folder)
    assert run.path("evaluation.json").read_bytes() == before
    kept = run.read_json(MEASURED)
    assert kept is not None
    assert set(kept["machine"]) == {"device", "device_name", "threads"}
    assert set(kept["models"]) == set(ALL[:3])
    for metrics in kept["models"].values():  # what one question measured the other has not wiped out
        assert {"top1_noise", "images_per_s"} <= set(metrics)
        assert "top1" not in metrics


def test_data_that_changed_since_are_told_and_nothing_is_kept(run: RunFolder) -> None:
    rewrite(run, lambda metrics: metrics.update(top1=metrics["top1"] + 0.1))
    told = answers.evaluate(run.folder, robust=True)
    assert [note.split(" no longer")[0] for note in told["notes"]] == ALL[:3]
    assert told["models"]["student/last"]["top1_noise"] is not None
    assert not run.path(MEASURED).exists()


def test_figures_that_an_older_version_did_not_measure_are_measured_once(
    run: RunFolder, passes: list[int]
) -> None:
    whole = answers.evaluate(run.folder)["models"]
    rewrite(run, lambda metrics: [metrics.pop(name, None) for name in ("ece", "calibration", "gaps")])
    told = answers.evaluate(run.folder)["models"]
    assert len(passes) == 3
    assert {name: told[name] for name in ALL[:3]} == {name: whole[name] for name in ALL[:3]}
    assert (told["no KD/last"]["top1"], told["no KD/last"]["ece"]) == (whole["no KD/last"]["top1"], None)
    assert answers.evaluate(run.folder)["models"] == told
    assert len(passes) == 3


def test_a_run_that_cannot_be_written_to_is_measured_all_the_same(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StoreError("no space left")

    monkeypatch.setattr(RunFolder, "write", refuse)
    told = answers.evaluate(run.folder, robust=True)
    assert told["models"]["student/last"]["top1_noise"] is not None
    assert told["notes"] == ["What was measured is not kept: no space left"]


# -- other runs ----------------------------------------------------------------------------------------------


def test_a_run_that_has_not_ended_is_measured_anew_each_time(
    teacher: Path, tmp_path: Path, passes: list[int]
) -> None:
    session = Session(tiny.recipe(teacher), tmp_path)
    tiny.until(session, e.CheckpointSaved, epoch=1)
    run = tiny.folder(session)
    passes.clear()
    told = answers.evaluate(run.folder)
    answers.evaluate(run.folder)
    assert passes == [360] * 6
    assert list(told["models"]) == ALL[:3]
    assert "the run has not ended" in told["protocol"]["text"]
    assert told["protocol"]["epochs"] is None
    assert not run.path(MEASURED).exists()
    tiny.finish(session)


def test_a_stages_own_model_is_measured_as_what_it_is(teacher: Path, tmp_path: Path) -> None:
    recipe = tiny.two_stages(teacher, stages__0__epochs=1).with_changes(
        {"stages.0.student": {"model": "cnn", "width": 3}}
    )
    session = Session(recipe, tmp_path)
    sizes = []
    for event in session:
        if isinstance(event, e.CheckpointSaved) and event.epoch == 1:
            told = answers.evaluate(tiny.folder(session).folder)["models"]
            sizes.append(told["student/last"]["parameters"])
    assert isinstance(event, e.RunDone)
    assert sizes[0] > sizes[1]
    summary = tiny.folder(session).read_json("summary.json")
    assert summary is not None
    assert sizes[1] == summary["students"]["student"]["parameters"]


def test_a_run_without_a_teacher_is_close_to_none(tmp_path: Path, passes: list[int]) -> None:
    plain = [{"stage": "train", "epochs": 1, "batch_size": 16}]
    run = tiny.run(tiny.recipe(teacher=None, stages=plain), tmp_path)
    passes.clear()
    models = answers.evaluate(run.folder)["models"]
    assert passes == []
    assert list(models) == ["student/last", "student/best"]
    assert [models["student/last"][name] for name in examination.CLOSE] == [None] * 4


def test_a_run_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / store.RECIPE).write_text(json.dumps(tiny.document()))
    with pytest.raises(KdError, match="no weights yet"):
        answers.evaluate(tmp_path / "bare")


# -- the protocol --------------------------------------------------------------------------------------------


def test_the_protocol_names_weights_part_seed_and_runs(run: RunFolder) -> None:
    told = answers.evaluate(run.folder)["protocol"]
    best = tiny.figures(run)["best_validation"]["student"]["epoch"]
    text = told.pop("text")
    assert told == {
        "part": "test",
        "images": 360,
        "dataset": "digits",
        "seed": 1,
        "runs": 1,
        "status": "done",
        "epochs": 2,
        "best_epoch": best,
        "chosen_by": "validation",
    }
    for words in ("the last epoch (2)", f"those of epoch {best}, the best on the validation part", "seed 1"):
        assert words in text


def test_without_a_validation_part_the_protocol_claims_no_choice(teacher: Path, tmp_path: Path) -> None:
    run = tiny.run(tiny.recipe(teacher, data__validation=0.0, stages__0__epochs=1), tmp_path)
    told = answers.evaluate(run.folder)["protocol"]
    assert told["chosen_by"] is None
    assert "without a validation part to choose" in told["text"]


def test_a_model_from_a_file_has_a_protocol_that_claims_nothing(teacher: Path) -> None:
    told = answers.evaluate_model("cnn", str(teacher), {"dataset": "digits"}, {"width": 2})
    assert told["protocol"] == told["figures"]["cnn"]["protocol"]["text"]
    assert os.fspath(teacher) in told["protocol"]
    assert "360 images" in told["protocol"]


# -- a confusion matrix of every epoch -----------------------------------------------------------------------


def arrays(run: RunFolder, name: str) -> dict[str, np.ndarray]:
    with np.load(run.path("snapshots") / name) as file:
        return dict(file)


def test_every_epoch_keeps_what_the_student_says_of_the_validation_part(made: RunFolder) -> None:
    samples = arrays(made, "samples.npz")
    labels = samples["validation_labels"]
    assert labels.shape == samples["teacher_validation_predictions"].shape == (15,)
    epochs = [event for event in tiny.of(e.EpochDone, made.events()) if event.student == e.STUDENT]
    first = arrays(made, "epoch_000.npz")["validation_predictions"]
    assert first.shape == (15,)  # before the first step
    for event in epochs:
        said = arrays(made, f"epoch_{event.epoch:03d}.npz")["validation_predictions"]
        assert said.dtype == np.uint8
        assert (said == labels).mean() == event.validation["top1"]
        assert (said == samples["teacher_validation_predictions"]).mean() == event.validation["agreement"]


def test_without_a_validation_part_there_is_nothing_to_keep_of_it(teacher: Path, tmp_path: Path) -> None:
    recipe = tiny.recipe(teacher, data__validation=0.0, stages__0__epochs=1, stages__0__snapshots=True)
    run = tiny.run(recipe, tmp_path)
    for name in ("samples.npz", "epoch_000.npz", "epoch_001.npz"):
        assert [key for key in arrays(run, name) if "validation" in key] == []
