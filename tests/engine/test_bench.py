"""A bench: the same recipe over seeds, broken off and gone on with, and what its table says."""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from kd_engine import bench_plan, tables
from kd_engine.bench import Bench, Progress
from kd_engine.bench_plan import Plan
from kd_engine.bench_table import Table, make_table
from kd_engine.errors import KdError, RecipeError, StoreError
from kd_engine.methods.kd import Kd as Kd_
from kd_engine.recipe import Recipe
from kd_engine.remote import LocalEngine
from kd_engine.session import Session
from kd_engine.signals import Signals
from kd_engine.store import RunFolder, Store
from tests.engine import tiny
from tests.engine.test_cli import Kd, kd, refused, write  # noqa: F401 (a fixture)

pytestmark = pytest.mark.usefixtures("quick")
SEEDS = [1, 2]  # the tiny recipe's own is 1


class Bed:
    """A folder of runs, a bench's folder, and one recipe."""

    def __init__(self, root: Path, made: Recipe, vary_data: bool = False) -> None:
        self.store, self.folder = Store(root / "runs"), root / "bench"
        self.document = bench_plan.settled(made)
        self.vary_data = vary_data

    @property
    def plan(self) -> Plan:
        return Plan.open(self.folder, self.document, self.vary_data)

    def bench(self, plan: Plan | None = None, seeds: list[int] = SEEDS, jobs: int = 1) -> Bench:
        return Bench(plan or self.plan, seeds, self.store, jobs, LocalEngine)

    def run(self, seeds: list[int] = SEEDS) -> tuple[Table, list[Progress]]:
        plan = self.plan
        told = list(self.bench(plan, seeds))
        return make_table(plan, seeds, self.store), told

    def stored(self, seed: int) -> RunFolder:
        return RunFolder(self.store.root / self.plan.cell(seed).run)


def recipe(teacher: Path, **changes: Any) -> Recipe:
    return tiny.recipe(teacher, stages__0__rivals=[tiny.PLAIN], **changes)


@pytest.fixture
def bed(teacher: Path, tmp_path: Path) -> Bed:
    return Bed(tmp_path, recipe(teacher))


@pytest.fixture(scope="module")
def finished(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bed, Table, list[Progress]]:
    """A bench that nobody disturbed."""
    bed = Bed(tmp_path_factory.mktemp("finished"), recipe(teacher))
    return bed, *bed.run()


def figures(found: Table) -> list[tuple[Any, ...]]:
    return [(row.seed, row.student, row.status, row.figures, row.gain) for row in found.rows]


def what(told: list[Progress]) -> list[tuple[int, str]]:
    return [(progress.seed, progress.what) for progress in told]


# -- what a table says ---------------------------------------------------------------------------------------


def test_a_row_says_what_a_plain_run_of_that_seed_says(
    finished: tuple[Bed, Table, list[Progress]], teacher: Path, tmp_path: Path
) -> None:
    run = tiny.run(recipe(teacher, seed=2), tmp_path)
    summary = run.read_json("summary.json")
    assert summary is not None
    for row in finished[1].rows:
        if row.seed == 2:
            students = summary["students"]
            assert row.figures == {name: students[row.student].get(name) for name in row.figures}
    [gain] = [row.gain for row in finished[1].rows if (row.seed, row.student) == (2, "student")]
    assert gain == summary["gain"]


def test_means_are_those_of_the_rows_and_the_gain_is_paired(
    finished: tuple[Bed, Table, list[Progress]],
) -> None:
    found = finished[1]
    ours = [row.figures["top1_test_last"] for row in found.rows if row.student == "student"]
    theirs = [row.figures["top1_test_last"] for row in found.rows if row.student == "no KD"]
    student, rival = found.students
    mean, gain = student.figures["top1_test_last"], student.gain
    assert mean is not None
    assert gain is not None
    assert gain.interval is not None
    assert (mean.n, mean.mean, mean.sd) == (2, statistics.mean(ours), statistics.stdev(ours))
    apart = [a - b for a, b in zip(ours, theirs, strict=True)]
    assert gain.spread.mean == pytest.approx(statistics.mean(apart))
    half = 12.7062047 * statistics.stdev(apart) / math.sqrt(2)  # Student's t, one degree of freedom
    assert gain.interval == pytest.approx((statistics.mean(apart) - half, statistics.mean(apart) + half))
    assert (found.baseline, rival.gain) == ("no KD", None)
    assert student.figures["top1_test_best"] is not None
    assert rival.figures["top1_test_best"] is None  # only the recipe's own student keeps its best weights


def test_every_file_says_the_protocol_or_the_figures(
    finished: tuple[Bed, Table, list[Progress]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = finished[1]
    tables.show_bench(found)
    shown = capsys.readouterr().out
    files = {file.name: file.read_text() for file in tables.write_bench(found, tmp_path / "new")}
    for text in (shown, files["bench.md"], files["bench.json"]):
        for word in (
            "last epoch, 2 of 2",
            "best on the validation part",
            "touches once",
            "n = 2 seeds (1, 2)",
        ):
            assert word in text, word
        for word in ("± standard deviation", "paired", "the order of batches", "1 CPU thread", "torch 2"):
            assert word in text, word
    rows = list(csv.DictReader(files["runs.csv"].splitlines()))
    assert [(int(row["seed"]), row["student"]) for row in rows] == [
        (seed, name) for seed in SEEDS for name in ("student", "no KD")
    ]
    assert float(rows[0]["top1_test_last"]) == found.rows[0].figures["top1_test_last"]
    [student, rival] = csv.DictReader(files["bench.csv"].splitlines())
    gain = found.students[0].gain
    assert gain is not None
    assert float(student["gain_mean"]) == gain.spread.mean
    assert (rival["gain_mean"], student["n"]) == ("", "2")
    assert json.loads(files["bench.json"])["students"][0]["student"] == "student"


def test_a_name_with_a_bar_stays_in_its_cell() -> None:
    made = tables.markdown_table(["a", "b"], [["x|y", "z\nz"]])
    assert made.splitlines()[2] == "| x\\|y | z z |"


@pytest.mark.parametrize(
    ("rivals", "baseline"),
    [
        ([], None),
        ([{**tiny.PLAIN, "name": "T = 1", "methods": [{"method": "kd"}]}], None),
        ([{**tiny.PLAIN, "name": "plain"}, {**tiny.PLAIN, "name": "other"}], "plain"),
        ([{**tiny.PLAIN, "name": "plain"}, tiny.PLAIN], "no KD"),
    ],
)
def test_the_baseline_is_the_rival_named_no_kd_or_the_first_without_methods(
    teacher: Path, tmp_path: Path, rivals: list[Any], baseline: str | None
) -> None:
    bed = Bed(tmp_path, tiny.recipe(teacher, stages__0__rivals=rivals))
    found = make_table(bed.plan, SEEDS, bed.store)
    assert found.baseline == baseline
    assert any("No gain" in line for line in found.protocol) == (baseline is None)


def test_data_are_the_same_for_all_seeds_unless_they_shall_vary(teacher: Path, tmp_path: Path) -> None:
    made = recipe(teacher, seed=5, data__seed=7)
    seeds = [
        [(plan.document_of(s)["seed"], plan.document_of(s)["data"]["seed"]) for s in plan.seeds(2)]
        for plan in (Bed(tmp_path / str(vary), made, vary).plan for vary in (False, True))
    ]
    assert seeds == [[(5, 7), (6, 7)], [(5, 7), (6, 8)]]


def test_a_run_uses_one_thread_unless_the_recipe_says_how_many(teacher: Path) -> None:
    threads = [
        bench_plan.settled(recipe(teacher, hardware__threads=given))["hardware"]["threads"]
        for given in (None, 2)
    ]
    assert threads == [1, 2]


# -- going on ------------------------------------------------------------------------------------------------


def test_a_second_call_makes_no_run_again_and_more_seeds_only_add(
    finished: tuple[Bed, Table, list[Progress]],
) -> None:
    bed, found, _ = finished
    runs = sorted(bed.store.root.iterdir())
    again, told = bed.run()
    assert what(told) == [(1, "kept"), (2, "kept")]
    assert figures(again) == figures(found)
    assert sorted(bed.store.root.iterdir()) == runs
    more, told = bed.run([1, 2, 3])
    assert what(told)[:3] == [(1, "kept"), (2, "kept"), (3, "started")]
    assert figures(more)[: len(found.rows)] == figures(found)
    assert len(list(bed.store.root.iterdir())) == 3


def test_stopped_in_the_middle_it_goes_on_where_it_was(
    bed: Bed, finished: tuple[Bed, Table, list[Progress]]
) -> None:
    plan = bed.plan
    work = bed.bench(plan)
    told = []
    for progress in work:
        told.append(progress)
        if (progress.seed, progress.what, progress.epoch) == (1, "epoch", 1):
            work.stop()
    assert what(told) == [(1, "started"), (1, "epoch"), (1, "stopped")]
    assert not work.complete
    assert plan.cell(1).status == "interrupted"
    found, told = bed.run()
    assert what(told)[:2] == [(1, "resumed"), (1, "epoch")]
    assert told[0].run == told[-1].run or told[0].seed == 1
    assert figures(found) == figures(finished[1])


def test_killed_in_the_middle_it_goes_on_where_it_was(
    bed: Bed, finished: tuple[Bed, Table, list[Progress]]
) -> None:
    def killed() -> None:
        for progress in bed.bench():
            if (progress.seed, progress.what) == (2, "epoch"):
                tiny.die()

    assert tiny.in_child(killed) == 9
    assert bed.plan.cell(1).status == "done"
    found, told = bed.run()
    assert what(told)[:2] == [(1, "kept"), (2, "resumed")]
    assert figures(found) == figures(finished[1])
    assert len(list(bed.store.root.iterdir())) == 2


def test_a_run_that_somebody_removed_is_made_again(
    bed: Bed, finished: tuple[Bed, Table, list[Progress]]
) -> None:
    bed.run([1])
    bed.stored(1).delete()
    found, told = bed.run([1])
    assert what(told)[0] == (1, "started")
    assert figures(found) == figures(finished[1])[:2]


def test_another_recipe_in_the_folder_of_a_bench_is_refused_with_every_difference(
    bed: Bed, teacher: Path
) -> None:
    bed.plan.save()
    renamed = bench_plan.settled(recipe(teacher, name="other words", note="x"))
    assert Plan.open(bed.folder, renamed, False).fingerprint == bed.plan.fingerprint
    other = bench_plan.settled(recipe(teacher, stages__0__epochs=3, seed=4))
    with pytest.raises(RecipeError) as refusal:
        Plan.open(bed.folder, other, True)
    told = str(refusal.value)
    assert "stages.0.epochs: was 2, is now 3" in told
    assert "seed: was 1, is now 4" in told
    assert "--vary-data: is new" in told
    assert "Choose another --out" in told


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("", "not a bench's plan"),
        ("[]", "not a bench's plan"),
        ('{"version": 1}', "not a bench's plan"),
        ('{"version": 2}', "newer version"),
    ],
)
def test_a_plan_that_cannot_be_read_is_refused(bed: Bed, content: str, word: str) -> None:
    bed.folder.mkdir()
    (bed.folder / "plan.json").write_text(content)
    with pytest.raises(StoreError, match=word):
        _ = bed.plan


def test_the_run_of_another_recipe_under_the_plans_name_is_refused(bed: Bed, teacher: Path) -> None:
    other = tiny.run(recipe(teacher, stages__0__epochs=1), bed.store.root)
    plan = bed.plan
    plan.cell(1).run = other.name
    with pytest.raises(StoreError, match=r"its recipe differs in stages\.0\.epochs"):
        list(bed.bench(plan, [1]))


def test_a_run_that_was_changed_by_hand_is_left_out_and_named(bed: Bed) -> None:
    session = Session(Recipe.from_document(bed.plan.document_of(1)), bed.store.root)
    session.send(tiny.set_temperature(8.0))
    tiny.finish(session)
    plan = bed.plan
    plan.cell(1).run = tiny.folder(session).name
    plan.save()
    found, told = bed.run()
    assert what(told)[0] == (1, "kept")
    assert [row.status for row in found.rows] == ["changed", "changed", "done", "done"]
    assert "changed by hand" in found.problems[0]
    assert any("1 of 2 runs have no figures" in line for line in found.protocol)


def test_two_processes_cannot_work_on_one_bench(bed: Bed) -> None:
    first = iter(bed.bench())
    next(first)
    with pytest.raises(StoreError, match="another process works on this bench"):
        list(bed.bench())
    first.close()
    assert what(bed.run()[1])[0][0] == 1  # and again once the first has ended


# -- what goes wrong -----------------------------------------------------------------------------------------


def sick_in(seed: int, terms: Callable[..., Any]) -> Callable[..., dict[str, Tensor]]:
    """A kd whose loss is no number in the run of one seed."""

    def told(self: Kd_, student: Signals, teacher: Signals, target: Tensor) -> dict[str, Tensor]:
        made: dict[str, Tensor] = terms(self, student, teacher, target)
        return {"kd": made["kd"] * (float("nan") if self.knobs.temperature == seed else 1.0)}

    return told


def test_a_run_whose_loss_is_no_number_is_reported_with_its_student_and_not_made_again(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rival = {"name": "T = 3", "label_weight": 0.1, "methods": [{"method": "kd", "temperature": 3.0}]}
    bed = Bed(tmp_path, tiny.recipe(teacher, stages__0__rivals=[tiny.PLAIN, rival]))
    with monkeypatch.context() as patch:
        patch.setattr(Kd_, "terms", sick_in(3, Kd_.terms))
        found, told = bed.run([1])
    assert what(told) == [(1, "started"), (1, "nan")]
    sick = [row for row in found.rows if row.student == "T = 3"]
    assert [(row.status, row.figures["top1_test_last"]) for row in sick] == [("nan", None)]
    assert "became no number (NaN or infinite) at step 1" in sick[0].message
    assert "see T = 3" in found.rows[0].message
    assert "(T = 3)" in found.problems[0]
    again, told = bed.run([1, 2])
    assert what(told)[:2] == [(1, "kept"), (2, "started")]
    assert [row.status for row in again.rows] == ["nan"] * 3 + ["done"] * 3
    mean = again.students[0].figures["top1_test_last"]
    assert mean is not None
    assert mean.n == 1


def test_a_run_that_fails_is_reported_and_tried_again_and_the_others_go_on(
    bed: Bed, finished: tuple[Bed, Table, list[Progress]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        once: list[int] = []

        def broken(self: Kd_, *signals: Any) -> dict[str, Tensor]:
            if not once:
                once.append(1)
                raise ZeroDivisionError("a fault")
            return terms(self, *signals)

        terms = Kd_.terms
        patch.setattr(Kd_, "terms", broken)
        found, told = bed.run()
    assert (1, "failed") in what(told)
    assert (2, "done") in what(told)
    assert [row.status for row in found.rows] == ["failed", "failed", "done", "done"]
    assert "ZeroDivisionError: a fault" in found.problems[0]
    assert "a mean over those that went well flatters" in " ".join(found.protocol)
    again, _ = bed.run()
    assert figures(again) == figures(finished[1])


def test_what_every_run_would_fail_of_ends_the_bench(teacher: Path, tmp_path: Path) -> None:
    bed = Bed(tmp_path, recipe(teacher, data__subset=5))
    with pytest.raises(KdError, match="5 samples cannot hold all 10 classes"):
        bed.run()
    assert len(list(bed.store.root.iterdir())) == 1


# -- the command ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_gives_the_same_figures_with_one_job_and_with_two(
    kd: Kd,  # noqa: F811
    teacher: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    finished: tuple[Bed, Table, list[Progress]],
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(2), raising=False)
    file = write(tmp_path / "tiny.json", recipe(teacher, hardware__threads=None).document())
    found = []
    for jobs in (1, 2):
        place = tmp_path / str(jobs)
        ended = kd("bench", file, "--seeds", 2, "--jobs", jobs, "--runs", place / "runs", "--out", place)
        assert ended.code == 0, ended.err
        assert "[2/2]" in ended.err
        assert "± " in ended.out
        rows = list(csv.DictReader((place / "runs.csv").open()))
        found.append([{name: row[name] for name in row if name != "run"} for row in rows])
    assert found[0] == found[1]
    own = [row.figures["kl"] for row in finished[1].rows]
    assert [float(row["kl"]) for row in found[0]] == own


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--seeds", "0"), "--seeds: got 0, expected 1 to 1000"),
        (("--jobs", "3"), "--jobs: got 3, expected 1 to 2: there are 2 cores"),
        (("--jobs", "2", "--set", "hardware.threads=2"), "--jobs: got 2, expected 1 to 1"),
        (("--set", "stages.0.epoch=1"), "did you mean 'epochs'"),
    ],
)
def test_a_bench_that_makes_no_sense_is_refused(
    kd: Kd,  # noqa: F811
    teacher: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    told: str,
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(2), raising=False)
    file = write(tmp_path / "tiny.json", recipe(teacher, hardware__threads=None).document())
    refused(kd("bench", file, "--runs", tmp_path / "runs", *words), told)
    assert not (tmp_path / "runs").exists()
