"""Questions about recipes and stored runs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kd_engine import answers, preview
from kd_engine.errors import KdError
from kd_engine.recipe import Recipe
from kd_engine.store import RunFolder
from tests.engine import tiny


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "_kept", {})


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The datasets that were loaded, in order."""
    names: list[str] = []
    load = preview.load_data

    def noted(section: Any) -> Any:
        names.append(section.dataset)
        return load(section)

    monkeypatch.setattr(preview, "load_data", noted)
    return names


def samples(told: dict[str, Any]) -> dict[str, np.ndarray]:
    with np.load(told["samples"]) as arrays:
        return dict(arrays)


def problems(told: dict[str, Any]) -> dict[str, str]:
    return {problem["path"]: problem["message"] for problem in told["problems"]}


# -- describe ------------------------------------------------------------------------------------------------


def test_a_recipe_is_described_with_data_teacher_student_and_samples(teacher: Path) -> None:
    told = answers.describe(tiny.document(teacher))
    assert told["problems"] == []
    assert told["data"]["classes"] == list("0123456789")
    assert (told["data"]["train"], told["data"]["validation"], told["data"]["test"]) == (45, 15, 360)
    assert told["teacher"]["parameters"] == told["student"]["parameters"] > 0
    assert told["teacher"]["macs"] > told["teacher"]["parameters"]
    assert told["student"]["latency_ms_p50"] > 0
    arrays = samples(told)
    assert arrays["teacher_logits"].shape == (len(arrays["images"]), 10)
    assert "student_logits" not in arrays


def test_a_recipe_that_mixes_shows_its_samples_unmixed(teacher: Path) -> None:
    plain = answers.describe(tiny.document(teacher))
    told = answers.describe(tiny.document(teacher, data__mix="cutmix", data__erase=1.0))
    assert told["problems"] == []
    for name in ("images", "labels", "teacher_logits"):
        np.testing.assert_array_equal(samples(told)[name], samples(plain)[name])
    refused = answers.describe(tiny.document(data__mix="mixup", stages__0__methods=[{"method": "tf-kd"}]))
    assert list(problems(refused)) == ["stages.0.methods.0.method"]


def test_the_bundled_teacher_tells_its_accuracy() -> None:
    document = tiny.document()
    document["teacher"] = {"model": "resnet20", "weights": "bundled:digits-resnet20"}
    assert answers.describe(document)["teacher"]["top1"] > 0.95


def test_a_runs_weights_tell_what_the_run_measured(undisturbed: RunFolder) -> None:
    summary = undisturbed.read_json("summary.json")
    assert summary is not None
    student = summary["students"]["student"]
    for which, key in (("", "top1_test_last"), (":best", "top1_test_best")):
        document = tiny.document(teacher__weights=f"run:{undisturbed.name}{which}")
        told = answers.describe(document, undisturbed.folder.parent)
        assert told["teacher"]["top1"] == student[key]


def test_problems_that_need_data_and_models_are_all_named() -> None:
    document = tiny.document()
    document["student"] = {"model": "vit-tiny", "depth": 1, "width": 8, "heads": 1, "patch": 16}
    document["stages"][0]["methods"] = [{"method": "at"}, {"method": "kd"}, {"method": "fitnet"}]
    document["stages"][0]["schedule"] = {"name": "step", "milestones": "0.5,2"}
    told = answers.describe(document)
    assert set(problems(told)) == {
        "stages.0.methods.0",
        "stages.0.methods.2",
        "stages.0.schedule.milestones",
    }
    assert told["student"]["model"] == "vit-tiny"  # what could be told is told all the same


def test_methods_that_cannot_work_are_told_with_the_reason_stage_by_stage() -> None:
    document = tiny.document()
    told = answers.describe(document)["methods"]
    assert len(told) == 1
    assert not {"kd", "at", "byot"} & told[0].keys()
    assert "attention" in told[0]["vit-attention"]
    document["student"] = {"model": "vit-tiny", "depth": 1, "width": 8, "heads": 1, "patch": 16}
    assert {"at", "fitnet"} <= answers.describe(document)["methods"][0].keys()


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_methods_that_cannot_work_on_mixed_images_are_told_in_the_words_of_the_recipe_check(mix: str) -> None:
    document = tiny.document(data__mix=mix)
    told = answers.describe(document)["methods"][0]
    assert not {"kd", "at", "fitnet", "multi-teacher"} & told.keys()
    for name in ("dkd", "tf-kd"):
        document["stages"][0]["methods"] = [{"method": name}]
        (problem,) = answers.describe(document)["problems"]
        assert told[name] == problem["message"]
    assert told["crd"].startswith("'crd' asks which class an image is of")
    assert not {"dkd", "crd", "tf-kd"} & answers.describe(tiny.document())["methods"][0].keys()


def test_what_cannot_work_among_peers_or_without_a_teacher_is_another_matter() -> None:
    document = tiny.document(teacher=None)
    mutual = {**tiny.PLAN, "stage": "mutual", "epochs": 1, "methods": [{"method": "dml"}]}
    document["stages"] = [mutual, {**mutual, "stage": "distill", "methods": [{"method": "tf-kd"}]}]
    told = answers.describe(document)
    assert told["problems"] == []
    peers, alone = told["methods"]
    assert "simkd" in peers
    assert not {"dml", "kd", "tf-kd"} & peers.keys()
    assert "needs a teacher" in alone["kd"]
    assert not {"byot", "tf-kd"} & alone.keys()


def test_a_wrong_recipe_is_told_without_loading_anything(loads: list[str]) -> None:
    told = answers.describe(tiny.document(data__dataset="digts"))
    assert list(problems(told)) == ["data.dataset"]
    assert loads == []
    assert answers.describe([])["problems"]  # type: ignore[arg-type]


def test_a_dataset_that_fails_is_a_problem_not_an_error(tmp_path: Path) -> None:
    document = tiny.document()
    document["data"] = {"dataset": "image-folder", "path": str(tmp_path)}
    told = answers.describe(document)
    assert "holds no pictures" in problems(told)[""]


def test_an_edit_that_touches_neither_data_nor_models_loads_nothing_again(
    teacher: Path, loads: list[str]
) -> None:
    first = answers.describe(tiny.document(teacher))
    second = answers.describe(tiny.document(teacher, stages__0__epochs=5, name="other"))
    assert loads == ["digits"]
    assert second == first
    assert Path(second["samples"]).is_file()


@pytest.mark.parametrize(
    ("path", "value", "part"),
    [
        ("data__subset", 80, "data"),
        ("data__labels_per_class", 2, "data"),
        ("student__width", 3, "student"),
        ("teacher__width", 3, "teacher"),
        ("student__model", "resnet8", "student"),
    ],
)
def test_an_edit_is_never_answered_with_what_was_kept(path: str, value: object, part: str) -> None:
    before = answers.describe(tiny.document())
    edited = tiny.document(**{path: value})
    if path.endswith("model"):
        del edited["student"]["width"]
    after = answers.describe(edited)
    preview._kept.clear()
    fresh = answers.describe(edited)
    clock = ("latency_ms_p50",)
    told, anew = (
        {name: v for name, v in answer[part].items() if name not in clock} for answer in (after, fresh)
    )
    assert told == anew
    assert after[part] != before[part]
    kept, made = samples(after), samples(fresh)
    assert set(kept) == set(made)
    assert all((kept[name] == made[name]).all() for name in kept)


def test_another_seed_makes_another_untrained_teacher() -> None:
    one, other = (samples(answers.describe(tiny.document(seed=seed))) for seed in (1, 2))
    assert not np.array_equal(one["teacher_logits"], other["teacher_logits"])


def test_weights_that_changed_under_the_same_name_are_read_again(
    teacher: Path, undisturbed: RunFolder, tmp_path: Path
) -> None:
    file = tmp_path / "weights.safetensors"
    file.write_bytes(teacher.read_bytes())
    before = samples(answers.describe(tiny.document(file)))
    file.write_bytes(undisturbed.path("last.safetensors").read_bytes())
    os.utime(file, ns=(1, 1))
    after = samples(answers.describe(tiny.document(file)))
    assert not np.array_equal(before["teacher_logits"], after["teacher_logits"])


def test_data_of_the_users_that_changed_under_the_same_name_is_read_again(tmp_path: Path) -> None:
    document = tiny.document()
    document["data"] = {"dataset": "arrays", "path": str(tmp_path / "mine.npz")}
    for count in (40, 60):
        np.savez(
            tmp_path / "mine.npz",
            images=np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8),
            labels=np.arange(count) % 10,
        )
        data = answers.describe(document)["data"]
        assert data["train"] + data["validation"] + data["test"] == count


def test_samples_that_were_deleted_are_made_again(teacher: Path) -> None:
    first = answers.describe(tiny.document(teacher))
    os.unlink(first["samples"])
    second = answers.describe(tiny.document(teacher))
    assert Path(second["samples"]).is_file()


def test_a_teacher_that_was_described_is_as_it_was(teacher: Path) -> None:
    """What is kept is looked at again and again: nothing may wear it out."""
    document = tiny.document(teacher)
    first = samples(answers.describe(document))
    answers.describe({**document, "data": {**document["data"], "subset": 80}})
    again = samples(answers.describe(document))
    assert all((first[name] == again[name]).all() for name in first)


# -- stored runs ---------------------------------------------------------------------------------------------


def test_a_probe_of_a_stored_run_says_what_was_shown_and_what_is_seen(
    undisturbed: RunFolder, tmp_path: Path
) -> None:
    told = answers.probe(undisturbed.folder, None, "attention", 4, out=tmp_path / "a" / "b.npz")
    assert told["path"] == str(tmp_path / "a" / "b.npz")
    with np.load(told["path"]) as arrays:
        assert arrays["student"].shape == arrays["teacher"].shape == arrays["image"].shape[1:]
        assert arrays["student_logits"].shape == (10,)
        assert told["classes"][int(arrays["label"])] == told["label"]
        assert list(arrays["classes"]) == told["classes"]
    assert set(told["numbers"]) == {"similarity"}


def test_a_probe_looks_with_the_weights_that_were_asked_for(
    undisturbed: RunFolder, teacher: Path, tmp_path: Path
) -> None:
    shutil.copytree(undisturbed.folder, tmp_path / "run")
    (tmp_path / "run" / "best.safetensors").write_bytes(teacher.read_bytes())
    similarity = {
        which: answers.probe(tmp_path / "run", None, "attention", 0, which=which)["numbers"]["similarity"]
        for which in ("last", "best")
    }
    assert similarity["best"] == pytest.approx(1)
    assert similarity["last"] < 0.9999


def test_without_a_validation_part_a_probe_shows_the_training_part(teacher: Path, tmp_path: Path) -> None:
    run = tiny.run(tiny.recipe(teacher, data__validation=0.0, stages__0__epochs=1), tmp_path)
    told = answers.probe(run.folder, None, "soft-targets", 59)
    assert Path(told["path"]).parent == run.folder / "probes"
    with pytest.raises(KdError, match="no sample 60 in the train part"):
        answers.probe(run.folder, None, "soft-targets", 60)


def test_an_evaluation_gives_the_figures_of_the_summary(undisturbed: RunFolder) -> None:
    told = answers.evaluate_run(undisturbed.folder)
    written = undisturbed.read_json("evaluation.json")
    assert written is not None
    clock = ("latency_ms_p50", "latency_ms_p95")
    later = {
        "batch",
        "images_per_s",
        "memory_bytes",
        "energy_j_per_1000",
        "counter",
        "unmeasured",
        "protocol",
    }
    for name, key in (("last", "student/last"), ("best", "student/best"), ("teacher", "teacher/last")):
        figures = told["figures"][name]
        assert {figure: figures[figure] for figure in written[key] if figure not in clock} == {
            figure: value for figure, value in written[key].items() if figure not in clock
        }
        assert set(figures) == {*written[key], *clock, *later}
    assert told["classes"] == list("0123456789")
    assert told["notes"] == []


def test_an_evaluation_without_a_teacher_compares_with_none(tmp_path: Path) -> None:
    document = tiny.document()
    del document["teacher"]
    document["stages"] = [{"stage": "train", "epochs": 1, "batch_size": 16}]
    run = tiny.run(Recipe.from_document(document), tmp_path)
    figures = answers.evaluate_run(run.folder)["figures"]
    assert set(figures) == {"last", "best"}
    assert "agreement" not in figures["last"]
