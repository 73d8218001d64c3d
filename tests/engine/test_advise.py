"""A pilot, what is judged from it, and what is said when there is nothing to say."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import stats
from torch import Tensor

from kd_engine import heat, tables
from kd_engine.advise import Advice, judge
from kd_engine.classroom import Classroom
from kd_engine.errors import KdError, RecipeError
from kd_engine.events import STUDENT
from kd_engine.methods.kd import Kd as Kd_
from kd_engine.picture import ORANGE
from kd_engine.pilot import (
    PLAIN,
    Outcome,
    Pilot,
    PilotFailed,
    Trial,
    look_at_teacher,
    make_pilot,
    softness,
)
from kd_engine.recipe import Recipe
from tests.engine import tiny
from tests.engine.test_cli import Kd, kd, refused, write  # noqa: F401 (a fixture)

pytestmark = pytest.mark.usefixtures("quick")
METHOD = {"method": "kd", "weight": 0.9, "temperature": 4.0}
SURE = {"top1": 1.0, "top1_validation": 0.9, "max": 0.99, "entropy": 0.03, "entropy_max": math.log(10)}
SURE |= {"softened": [[1.0, 0.99, 0.03], [2.0, 0.96, 0.1], [4.0, 0.8, 0.6], [8.0, 0.4, 1.5]]}


def pilot(teacher: Path | None = None, **changes: Any) -> Pilot:
    return make_pilot(tiny.recipe(teacher, **changes), epochs=3, subset=1000)


def outcome(planned: Pilot, top1: dict[str, float], plain: float, images: int = 1000, **more: Any) -> Outcome:
    """What a pilot might have come to: `top1` by a part of a setting's name, 0.7 for the rest."""
    found = {}
    for name in planned.settings:
        given = [value for part, value in top1.items() if part in name]
        found[name] = {"top1": given[0] if given else 0.7, "loss": 1.0, "agreement": 0.7, "kl": 0.5}
    found[PLAIN] = {"top1": plain, "loss": 1.0, "agreement": 0.6, "kl": 0.9}
    return Outcome(found, images, 30, more.get("teacher", SURE), {"device": "cpu", "threads": 1})


def advice(top1: dict[str, float], plain: float = 0.5, images: int = 1000, **more: Any) -> Advice:
    planned = pilot()
    return judge(planned, outcome(planned, top1, plain, images, **more))


# -- what is tried -------------------------------------------------------------------------------------------


def test_the_grid_is_temperatures_by_weights_with_the_recipes_own_first(teacher: Path) -> None:
    planned = pilot(teacher)
    tried = {(s.temperature, s.weight, s.label_weight) for s in planned.settings.values()}
    assert tried == {(t, w, round(1 - w, 6)) for t in (1.0, 2.0, 4.0, 8.0) for w in (0.5, 0.9)}
    assert next(iter(planned.settings)) == STUDENT
    assert planned.settings[STUDENT].temperature == 4.0
    assert len(planned.settings) == 8
    [plain] = [r for r in planned.document["stages"][0]["rivals"] if r["name"] == PLAIN]
    assert plain == {"name": PLAIN, "label_weight": 1.0, "methods": []}


def test_an_own_setting_beside_the_grid_is_tried_too_and_sets_the_sum_of_the_weights(teacher: Path) -> None:
    own = {"method": "kd", "weight": 3.0, "temperature": 3.0}
    planned = pilot(teacher, stages__0__methods=[own], stages__0__label_weight=1.0)
    settings = list(planned.settings.values())
    assert len(settings) == 9
    assert (settings[0].temperature, settings[0].weight, settings[0].label_weight) == (3.0, 3.0, 1.0)
    assert {s.weight + s.label_weight for s in settings} == {4.0}
    assert {round(s.share, 6) for s in settings} == {0.75, 0.5, 0.9}


def test_other_methods_stay_and_what_a_method_cannot_take_is_not_tried(teacher: Path) -> None:
    at = {"method": "at", "weight": 100.0}
    high = {"method": "kd", "weight": 10.0, "temperature": 4.0}
    planned = pilot(teacher, stages__0__methods=[at, high], stages__0__label_weight=5.0)
    assert (planned.stage, planned.method) == (0, 1)
    for rival in planned.document["stages"][0]["rivals"]:
        if rival["name"] != PLAIN:
            assert rival["methods"][0]["weight"] == 100.0
    assert max(s.weight for s in planned.settings.values()) <= 10.0  # 0.9 of 15 would be beyond the knob
    assert "at beside kd" in " ".join(planned.notes)


def test_a_pilot_is_short_small_and_says_what_it_changed(teacher: Path) -> None:
    made = tiny.two_stages(teacher)
    made = made.with_changes(
        {
            "stages.1.epochs": 30,
            "stages.1.schedule": {"name": "cosine", "warmup_epochs": 5},
            "data.subset": None,
            "data.validation": 0.1,
        }
    )
    planned = make_pilot(made, epochs=3, subset=400)
    [train, distill] = planned.document["stages"]
    assert (train["epochs"], distill["epochs"]) == (1, 3)
    assert distill["schedule"]["warmup_epochs"] == 0.5
    assert planned.document["data"]["subset"] == 400
    assert planned.document["data"]["validation"] == 0.3
    told = " ".join(planned.notes)
    for word in ("3 epochs instead of 30", "400 images", "30.0% of them held out"):
        assert word in told
    kept = make_pilot(made.with_changes({"data.subset": 60, "data.validation": 0.4}), 100, 400)
    assert (kept.document["data"]["subset"], kept.document["data"]["validation"]) == (60, 0.4)
    assert kept.document["stages"][1]["epochs"] == 30


@pytest.mark.parametrize("methods", [[], [{"method": "at"}]])
def test_a_recipe_without_a_temperature_is_told_what_it_can_do(teacher: Path, methods: list[Any]) -> None:
    with pytest.raises(RecipeError) as refusal:
        pilot(teacher, stages__0__methods=methods)
    assert "stages.0.methods: no method with a temperature" in str(refusal.value)
    assert "kd" in str(refusal.value)
    assert """--set 'stages.0.methods=[{"method": "kd"}]'""" in str(refusal.value)


# -- running it ----------------------------------------------------------------------------------------------


def test_a_pilot_never_asks_for_the_test_part_and_leaves_no_run(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = Classroom.batches
    asked: list[str] = []

    def watched(self: Classroom, part: Any) -> Any:
        asked.append(part)
        return batches(self, part)

    monkeypatch.setattr(Classroom, "batches", watched)
    planned = pilot(teacher)
    trial = Trial(planned, tmp_path / "runs")
    assert list(trial) == [(1, 2), (2, 2)]
    assert set(asked) == {"train", "validation"}
    assert list((tmp_path / "runs").iterdir()) == []
    found = trial.outcome
    assert found is not None
    assert set(found.validation) == {*planned.settings, PLAIN}
    assert all(0 <= figures["top1"] <= 1 for figures in found.validation.values())
    assert (found.images, found.steps) == (18, 6)  # 30 % of 60; the other 42 in batches of 16, twice


def test_the_own_setting_in_a_pilot_learns_what_a_plain_run_learns(teacher: Path, tmp_path: Path) -> None:
    """Rivals do not disturb it, and its figures are those of the last epoch."""
    planned = pilot(teacher)
    trial = Trial(planned, tmp_path)
    list(trial)
    alone = {**planned.document, "stages": [{**planned.document["stages"][0], "rivals": []}]}
    run = tiny.run(Recipe.from_document(alone), tmp_path)
    last = [event for event in run.events() if type(event).__name__ == "EpochDone"][-1]
    assert trial.outcome is not None
    assert trial.outcome.validation[STUDENT] == last.validation  # type: ignore[attr-defined]


def test_a_stopped_pilot_has_no_outcome_and_leaves_no_run(teacher: Path, tmp_path: Path) -> None:
    trial = Trial(pilot(teacher), tmp_path)
    for _ in trial:
        trial.stop()
    assert trial.outcome is None
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_no_number_ends_a_pilot_with_the_student_and_the_way_out(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms = Kd_.terms

    def sick(self: Kd_, *signals: Any) -> dict[str, Tensor]:
        factor = float("nan") if self.knobs.temperature == 8 else 1.0
        return {name: term * factor for name, term in terms(self, *signals).items()}

    monkeypatch.setattr(Kd_, "terms", sick)
    with pytest.raises(PilotFailed, match=r"'T=8, .* became no number .*stages\.0\.optimizer\.lr"):
        list(Trial(pilot(teacher), tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_begin_is_a_wrong_request(teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(KdError, match="5 samples cannot hold all 10 classes") as refusal:
        list(Trial(make_pilot(tiny.recipe(teacher), 1, 5), tmp_path))
    assert not isinstance(refusal.value, PilotFailed)


# -- the teacher ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_softness_is_the_mean_top_probability_and_entropy(temperature: float) -> None:
    logits = np.random.default_rng(0).normal(0, 5, (40, 7)).astype(np.float32)
    shares = np.exp(logits.astype(float) / temperature)
    shares /= shares.sum(1, keepdims=True)
    top, entropy = softness(logits, temperature)
    assert top == pytest.approx(shares.max(1).mean())
    assert entropy == pytest.approx(stats.entropy(shares, axis=1).mean())


def test_softness_holds_for_logits_that_overflow() -> None:
    assert softness(np.array([[1e4, 0.0], [0.0, 1e4]], np.float32), 1.0) == pytest.approx((1.0, 0.0))
    assert softness(np.zeros((3, 4), np.float32), 1.0) == pytest.approx((0.25, math.log(4)))


def test_the_teacher_is_looked_at_on_the_images_that_students_see(teacher: Path, tmp_path: Path) -> None:
    found, images = look_at_teacher(Recipe.from_document(pilot(teacher).document), tmp_path, 0)
    assert images == 18
    assert found is not None
    assert [t for t, *_ in found["softened"]] == [1.0, 2.0, 4.0, 8.0]
    assert found["entropy"] < found["entropy_max"] == pytest.approx(math.log(10))
    tops = [top for _, top, _ in found["softened"]]
    assert tops == sorted(tops, reverse=True)


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        ({}, "nearly the labels again. A higher temperature shows more of the rest; T=4 is the first"),
        ({"max": 0.4}, "soft already"),
        ({"max": 0.8}, "neither sharp nor flat"),
        ({"softened": [[1.0, 0.99, 0.0], [8.0, 0.99, 0.0]]}, "none that was tried does"),
    ],
)
def test_what_follows_from_how_sure_the_teacher_is(facts: dict[str, Any], word: str) -> None:
    assert word in advice({}, teacher={**SURE, **facts}).words[-1]


# -- the verdict ---------------------------------------------------------------------------------------------


def test_a_difference_beyond_noise_is_suggested_with_its_runner_up() -> None:
    found = advice({"T=8, kd 0.5": 0.85, "T=8, kd 0.9": 0.84})
    assert found.changes == {
        "stages.0.methods.0.temperature": 8.0,
        "stages.0.methods.0.weight": 0.5,
        "stages.0.label_weight": 0.5,
    }
    assert found.words[0].startswith("Suggested: T=8, kd 0.5, labels 0.5. It is 15.0 points ahead")
    assert "runner-up (T=8, kd 0.9, labels 0.1), 1.0 points behind, cannot be told from it" in found.words[0]
    assert "The teacher helps" in found.words[1]


def test_only_what_differs_from_the_recipe_is_changed() -> None:
    assert advice({"T=8, kd 0.9": 0.85}).changes == {"stages.0.methods.0.temperature": 8.0}


def test_a_difference_within_noise_is_no_evidence() -> None:
    found = advice({"T=8, kd 0.9": 0.75})
    assert found.changes == {}
    assert found.words[0].startswith("No evidence for any setting over the recipe's own (T=4, kd 0.9, labels")
    assert "5.0 points ahead, and 5.4 points could be chance" in found.words[0]


def test_the_noise_is_that_of_two_shares_corrected_for_the_number_of_looks() -> None:
    found = advice({"T=8, kd 0.9": 0.75}, images=400)
    own = next(finding for finding in found.findings if finding.own)
    error = math.sqrt(0.7 * 0.3 / 400 + 0.75 * 0.25 / 400)
    assert own.noise == pytest.approx(stats.norm.isf(0.025 / 7) * error)
    assert own.error == pytest.approx(math.sqrt(0.7 * 0.3 / 400))
    assert own.behind == pytest.approx(0.05)


def test_of_equals_the_recipes_own_is_best() -> None:
    found = advice({})
    assert found.findings[0].own
    assert found.changes == {}
    assert "did best: no evidence for any other" in found.words[0]


def test_when_plain_training_does_better_that_is_said() -> None:
    assert "The teacher does not help in so short a run" in advice({}, plain=0.85).words[1]
    assert "is not seen here" in advice({}, plain=0.71).words[1]
    assert advice({}, plain=0.85).findings[-1].name == PLAIN


def test_a_pilot_in_which_nobody_learned_gives_no_advice() -> None:
    found = advice({"T=8, kd 0.9": 0.4, "": 0.1}, plain=0.2)
    assert found.changes == {}
    assert found.words[0].startswith("Too early for advice: no student got beyond 40.0 %")


def test_the_protocol_says_on_what_it_was_judged() -> None:
    told = " ".join(advice({}).protocol)
    for word in (
        "1000 validation images",
        "No model answered on the test part",
        "one seed (1)",
        "Bonferroni",
    ):
        assert word in told
    assert "8 settings and plain training" in told


# -- files and the command -----------------------------------------------------------------------------------


def test_the_picture_marks_the_own_setting_and_shades_no_noise(tmp_path: Path) -> None:
    for name, found in (("far", advice({"T=8, kd 0.9": 0.95})), ("near", advice({"T=8, kd 0.9": 0.702}))):
        heat.save(found, tmp_path / f"{name}.png")
    far, near = (np.asarray(Image.open(tmp_path / f"{name}.png")).astype(int) for name in ("far", "near"))
    orange = np.array([int(ORANGE[i : i + 2], 16) for i in (1, 3, 5)])
    assert (far == orange).all(-1).any()

    def contrast(sheet: np.ndarray) -> int:
        row = heat.TOP + heat.CELL[1] + 50
        own, best = (sheet[row, heat.LEFT + k * heat.CELL[0] + 100] for k in (1, 3))
        return int(abs(own - best).sum())

    assert contrast(far) > 5 * contrast(near) > 0


def test_files_hold_every_setting(tmp_path: Path) -> None:
    found = advice({"T=8, kd 0.9": 0.95})
    files = {file.name: file.read_text() for file in tables.write_advice(found, tmp_path)}
    rows = list(csv.DictReader(files["advice.csv"].splitlines()))
    assert len(rows) == 9
    assert (rows[0]["temperature"], rows[0]["weight"], float(rows[0]["top1_validation"])) == (
        "8.0",
        "0.9",
        0.95,
    )
    assert [row["own"] for row in rows].count("1") == 1
    assert rows[-1]["temperature"] == ""
    assert json.loads(files["advice.json"])["changes"] == {"stages.0.methods.0.temperature": 8.0}
    assert "Suggested: T=8" in files["advice.md"]


def test_the_command_shows_the_evidence_and_leaves_the_recipe_alone(
    kd: Kd,  # noqa: F811
    teacher: Path,
    tmp_path: Path,
) -> None:
    file = write(tmp_path / "tiny.json", tiny.document(teacher, stages__0__methods=[METHOD]))
    before = file.read_bytes()
    ended = kd("advise", file, "--epochs", 1, "--out", tmp_path / "out", "--runs", tmp_path / "runs")
    assert ended.code == 0, ended.err
    assert "T=4, kd 0.9, labels 0.1 (the recipe's own)" in ended.out
    assert "No model answered on the test part" in ended.out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "advice.csv",
        "advice.json",
        "advice.md",
        "advice.png",
    ]
    assert file.read_bytes() == before


def test_advice_is_options_for_the_same_recipe_and_a_file_only_when_asked_for(
    kd: Kd,  # noqa: F811
    teacher: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = write(tmp_path / "tiny.json", tiny.document(teacher, stages__0__methods=[METHOD]))

    def decided(self: Trial) -> Any:
        self.outcome = outcome(self._pilot, {"T=8, kd 0.5": 0.95}, 0.5)
        self._session.__iter__().close()
        return iter(())

    monkeypatch.setattr(Trial, "__iter__", decided)
    place = ("--runs", tmp_path / "runs", "--set", "stages.0.epochs=1", "--write", tmp_path / "new.json")
    ended = kd("advise", file, *place)
    assert ended.code == 0, ended.err
    [line] = [line for line in ended.out.splitlines() if line.startswith("kd run")]
    options = [word for word in line.split() if "=" in word]
    assert options == [
        "stages.0.epochs=1",
        "stages.0.methods.0.temperature=8",
        "stages.0.methods.0.weight=0.5",
        "stages.0.label_weight=0.5",
    ]
    written = json.loads((tmp_path / "new.json").read_text())
    expected = tiny.document(teacher, stages__0__epochs=1, stages__0__label_weight=0.5)
    expected["stages"][0]["methods"] = [{"method": "kd", "weight": 0.5, "temperature": 8.0}]
    assert written == expected
    refused(kd("advise", file, *place), "new.json is there already")


def test_without_evidence_no_file_is_written(
    kd: Kd,  # noqa: F811
    teacher: Path,
    tmp_path: Path,
) -> None:
    file = write(tmp_path / "tiny.json", tiny.document(teacher, stages__0__methods=[METHOD]))
    new = tmp_path / "new.json"
    ended = kd("advise", file, "--epochs", 1, "--runs", tmp_path / "runs", "--write", new)
    assert ended.code == 0, ended.err  # this teacher knows nothing: no setting can lead
    assert "was not written" in ended.err
    assert "To follow it" not in ended.out
    assert not new.exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--epochs", "0"), "--epochs: got 0, expected 1 or more"),
        (("--subset", "3"), "--subset: got 3, expected 10 or more"),
        (("--set", "stages.0.methods=[]"), "no method with a temperature"),
        (("--set", "data.validatoin=1"), "did you mean 'validation'"),
    ],
)
def test_a_pilot_that_makes_no_sense_is_refused(
    kd: Kd,  # noqa: F811
    teacher: Path,
    tmp_path: Path,
    words: tuple[str, ...],
    told: str,
) -> None:
    file = write(tmp_path / "tiny.json", tiny.document(teacher))
    refused(kd("advise", file, "--runs", tmp_path / "runs", *words), told)
    assert not (tmp_path / "runs").exists()
