"""A run: the same seed gives the same bits, whatever happens beside it; the teacher and the test part are
left in peace."""

from __future__ import annotations

import gc
import threading
import weakref
from contextlib import closing
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from kd_engine import events as e
from kd_engine import journal
from kd_engine.batches import Batch, Batches, Draw
from kd_engine.commands import AskProbe, Continue, Pause, SetKnob, StepOnce, Stop
from kd_engine.data import Subset
from kd_engine.models.cnn import Cnn
from kd_engine.recipe import Recipe
from kd_engine.session import Session
from kd_engine.store import LAST, RunFolder
from kd_engine.teacher import LiveTeacher
from kd_engine.trainee import Trainee
from tests.engine import tiny

pytestmark = pytest.mark.usefixtures("quick")

PROBES = ("attention", "grad-cam", "soft-targets")


# -- one seed, one result --


def test_a_seed_gives_the_same_bits_twice(undisturbed: RunFolder, teacher: Path, tmp_path: Path) -> None:
    tiny.assert_same_run(tiny.run(tiny.recipe(teacher), tmp_path), undisturbed)


def test_another_seed_gives_other_bits(undisturbed: RunFolder, teacher: Path, tmp_path: Path) -> None:
    assert tiny.differing(tiny.run(tiny.recipe(teacher, seed=2), tmp_path), undisturbed)


def test_the_state_of_the_global_generators_does_not_matter_and_is_left_alone(
    undisturbed: RunFolder, teacher: Path, tmp_path: Path
) -> None:
    torch.manual_seed(12345)
    np.random.seed(12345)
    before, theirs = torch.get_rng_state(), np.random.get_state()[1].copy()
    session = Session(tiny.recipe(teacher), tmp_path)
    for _ in session:
        torch.rand(3)
    torch.set_rng_state(before)
    again = Session(tiny.recipe(teacher), tmp_path)
    tiny.finish(again)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], theirs)
    assert tiny.differing(tiny.folder(session), undisturbed) == []
    assert tiny.differing(tiny.folder(again), undisturbed) == []


def test_two_sessions_moved_in_turn_give_what_each_gives_alone(
    undisturbed: RunFolder, teacher: Path, tmp_path: Path
) -> None:
    other = tiny.recipe(teacher, seed=5, stages__0__batch_size=20)
    alone = tiny.run(other, tmp_path / "alone")
    one, two = Session(tiny.recipe(teacher), tmp_path), Session(other, tmp_path)
    for session in (one, two):
        for _ in range(30):
            session.send(StepOnce())  # a pause after every step, so that the turns are short
    living = [one, two]
    while living:
        for session in list(living):
            event = next(iter(session), None)
            if isinstance(event, e.Paused):
                session.send(Continue() if event.step > 5 else StepOnce())
            if event is None:
                living.remove(session)
    assert tiny.differing(tiny.folder(one), undisturbed) == []
    assert tiny.differing(tiny.folder(two), alone) == []


def test_each_session_has_its_own_number_of_cpu_threads(teacher: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    seen: dict[int | None, set[int]] = {2: set(), None: set()}

    def paused(threads: int | None) -> Session:
        session = Session(tiny.recipe(teacher, hardware__threads=threads), tmp_path)
        session.send(Pause())

        def look() -> None:
            seen[threads].add(torch.get_num_threads())
            session.send(Stop())

        session.idle = look
        return session

    for _ in zip_longest(paused(2), paused(None)):
        assert torch.get_num_threads() == before
    assert seen == {2: {2}, None: {before}}


def test_live_changes_made_again_give_the_same_bits(teacher: Path, tmp_path: Path) -> None:
    def steer(session: Session, event: e.Event) -> None:
        if isinstance(event, e.StageStarted):
            session.send(SetKnob(tiny.TEMPERATURE, 7.0))
            session.send(StepOnce())
        elif isinstance(event, e.Paused):
            session.send(SetKnob(tiny.LR, 0.2 / event.step))
            session.send(SetKnob(tiny.TEMPERATURE, 9.0))
            session.send(SetKnob(tiny.TEMPERATURE, 2.0))
            session.send(SetKnob(tiny.TEMPERATURE, 9.0))
            session.send(StepOnce() if event.step < 4 else Continue())

    made = tiny.steered(tiny.recipe(teacher), tmp_path, steer)
    again = Session.repeat(made.folder, tmp_path)
    tiny.finish(again)
    assert tiny.folder(again).name != made.name
    assert len(tiny.changes(made)) == 17
    assert tiny.changes(tiny.folder(again)) == tiny.changes(made)
    tiny.assert_same_run(tiny.folder(again), made)
    assert tiny.differing(made, tiny.run(tiny.recipe(teacher), tmp_path))


def test_pauses_single_steps_and_every_probe_change_no_bit(
    undisturbed: RunFolder, teacher: Path, tmp_path: Path
) -> None:
    answered: list[str] = []

    def steer(session: Session, event: e.Event) -> None:
        if isinstance(event, e.StageStarted):
            session.send(AskProbe("attention", 0, id="running"))
            session.send(Pause())
        elif isinstance(event, e.Paused):
            for probe in PROBES:
                for part in ("train", "validation", "test"):
                    session.send(AskProbe(probe, 1, part=part, id=probe))
            session.send(AskProbe("attention", 2, tap="stage1", roles=("student",), id="roles"))
            session.send(StepOnce("epoch" if event.step == 3 else "batch"))
        elif isinstance(event, e.ProbeReady):
            assert Path(event.path).is_file()
            answered.append(event.id)

    made = tiny.steered(tiny.recipe(teacher), tmp_path, steer)
    tiny.assert_same_run(made, undisturbed)
    assert answered[0] == "running"
    assert set(answered) == {"running", "roles", *PROBES}


def test_rivals_do_not_disturb_the_student(undisturbed: RunFolder, teacher: Path, tmp_path: Path) -> None:
    hint = {"name": "attention", "label_weight": 0.5, "methods": [{"method": "at", "weight": 10.0}]}
    learner = {"name": "regressor", "label_weight": 0.5, "methods": [{"method": "fitnet"}]}
    made = tiny.run(tiny.recipe(teacher, stages__0__rivals=[tiny.PLAIN, hint, learner]), tmp_path)
    assert tiny.differing(made, undisturbed) == []
    summary = tiny.figures(made)
    assert list(summary["students"]) == ["student", "no KD", "attention", "regressor"]
    assert summary["students"]["student"] == tiny.figures(undisturbed)["students"]["student"]


def test_rivals_start_from_the_students_weights(teacher: Path, tmp_path: Path, steps: Steps) -> None:
    twin = {"name": "twin", "label_weight": 0.1, "methods": [{"method": "kd"}]}
    tiny.run(tiny.recipe(teacher, stages__0__rivals=[twin]), tmp_path)
    ours, theirs = steps.of("student"), steps.of("twin")
    assert [step.loss for step in ours] == [step.loss for step in theirs]
    assert len({step.loss for step in ours}) > 1


# -- what a step is made of --


class Step:
    def __init__(self, name: str, target: torch.Tensor, lr: float, loss: float, training: bool) -> None:
        self.name, self.target, self.lr, self.loss, self.training = name, target, lr, loss, training


class Steps(list[Step]):
    """Every optimizer step that was made, in order."""

    def of(self, name: str) -> list[Step]:
        return [step for step in self if step.name == name]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    made = Steps()
    learn = Trainee.learn

    def record(self: Trainee, step: int, lr: float, batch: Batch, *rest: Any) -> None:
        learn(self, step, lr, batch, *rest)
        modes = {module.training for module in self.module.modules()}
        made.append(Step(self.name, batch.target, lr, float(self._records[-1][1].values[0]), modes == {True}))

    monkeypatch.setattr(Trainee, "learn", record)
    return made


def test_the_student_is_in_train_mode_at_every_step(teacher: Path, tmp_path: Path, steps: Steps) -> None:
    def steer(session: Session, event: e.Event) -> None:
        if isinstance(event, e.EpochDone):
            session.send(AskProbe("grad-cam", 0))

    rivals = tiny.recipe(teacher, stages__0__rivals=[tiny.PLAIN], stages__0__snapshots=True)
    tiny.steered(rivals, tmp_path, steer)
    assert len(steps) == 2 * 2 * tiny.STEPS
    assert all(step.training for step in steps)


@pytest.fixture
def teachers(monkeypatch: pytest.MonkeyPatch) -> list[LiveTeacher]:
    """Every teacher that is made, with `steps`: how often it was in a training step."""
    made: list[LiveTeacher] = []
    init, signals = LiveTeacher.__init__, LiveTeacher.signals

    def remember(self: Any, *args: Any) -> None:
        init(self, *args)
        self.steps = 0
        self.before = {name: value.clone() for name, value in self.module.state_dict().items()}
        made.append(self)

    def count(self: Any, batch: Batch) -> Any:
        self.steps += 1
        assert not any(module.training for module in self.module.modules())
        said = signals(self, batch)
        assert not said.logits.requires_grad
        return said

    monkeypatch.setattr(LiveTeacher, "__init__", remember)
    monkeypatch.setattr(LiveTeacher, "signals", count)
    return made


def test_the_teacher_is_frozen_in_eval_mode_and_unchanged(
    teacher: Path, tmp_path: Path, teachers: list[Any]
) -> None:
    methods = [{"method": "kd"}, {"method": "at", "weight": 10.0}, {"method": "fitnet"}]
    tiny.run(
        tiny.recipe(teacher, hardware__cache="off", stages__0__methods=methods, stages__0__snapshots=True),
        tmp_path,
    )
    (frozen,) = teachers
    assert frozen.steps == 2 * tiny.STEPS
    assert not any(p.requires_grad or p.grad is not None for p in frozen.module.parameters())
    assert all(torch.equal(value, frozen.before[name]) for name, value in frozen.module.state_dict().items())


def test_one_pass_of_the_teacher_serves_all_students(
    teacher: Path, tmp_path: Path, teachers: list[Any]
) -> None:
    twin = {"name": "twin", "label_weight": 0.1, "methods": [{"method": "kd"}]}
    tiny.run(tiny.recipe(teacher, hardware__cache="off", stages__0__rivals=[twin, tiny.PLAIN]), tmp_path)
    assert teachers[0].steps == 2 * tiny.STEPS


def test_a_teacher_that_nobody_listens_to_is_not_run(
    teacher: Path, tmp_path: Path, teachers: list[Any]
) -> None:
    made = tiny.recipe(
        teacher,
        hardware__cache="off",
        stages__0__methods=[{"method": "kd", "weight": 0.0}],
        stages__0__label_weight=1,
    )
    tiny.run(made, tmp_path)
    assert teachers[0].steps == 0


def test_a_teacher_is_run_from_the_step_on_at_which_its_weight_rises(
    teacher: Path, tmp_path: Path, teachers: list[Any]
) -> None:
    made = tiny.recipe(
        teacher,
        hardware__cache="off",
        stages__0__methods=[{"method": "kd", "weight": 0.0}],
        stages__0__label_weight=1,
    )
    tiny.run(made, tmp_path, changes=[(4, tiny.KD_WEIGHT, 0.5)])
    assert teachers[0].steps == 2


def test_a_step_without_any_weight_changes_nothing_but_the_statistics(teacher: Path, tmp_path: Path) -> None:
    nothing = {"stages__0__label_weight": 0, "stages__0__methods": [{"method": "kd", "weight": 0.0}]}
    still = {**nothing, "stages__0__optimizer": {"name": "sgd", "weight_decay": 0.0, "momentum": 0.0}}
    made = tiny.run(tiny.recipe(teacher, **still), tmp_path)
    one = tiny.run(tiny.recipe(teacher, **still, stages__0__epochs=1), tmp_path)
    assert all("running" in name or "num_batches" in name for name in tiny.differing(made, one))


# -- labels that are withheld --


def test_the_plain_rival_makes_as_many_steps_on_labelled_samples_only(
    teacher: Path, tmp_path: Path, steps: Steps
) -> None:
    tiny.run(tiny.recipe(teacher, data__labels_per_class=1, stages__0__rivals=[tiny.PLAIN]), tmp_path)
    ours, theirs = steps.of("student"), steps.of("no KD")
    assert len(ours) == len(theirs) == 2 * tiny.STEPS
    assert all((step.target == -1).any() for step in ours)
    assert all((step.target >= 0).all() for step in theirs)
    assert [len(step.target) for step in theirs] == [16] * 6
    assert [step.lr for step in ours] == [step.lr for step in theirs]


def test_without_withheld_labels_the_plain_rival_sees_the_students_batches(
    teacher: Path, tmp_path: Path, steps: Steps
) -> None:
    tiny.run(tiny.recipe(teacher, stages__0__rivals=[tiny.PLAIN]), tmp_path)
    ours, theirs = steps.of("student"), steps.of("no KD")
    assert all(torch.equal(a.target, b.target) for a, b in zip(ours, theirs, strict=True))


def test_plain_training_with_few_labels_learns_from_them_alone(tmp_path: Path, steps: Steps) -> None:
    plain = [{"stage": "train", "epochs": 1, "batch_size": 16}]
    tiny.run(tiny.recipe(data__labels_per_class=2, stages=plain, teacher=None), tmp_path)
    assert len(steps) == tiny.STEPS
    assert all((step.target >= 0).all() for step in steps)


# -- the test part --


def test_the_test_part_is_untouched_before_the_end(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched: list[str] = []

    def of(self: Subset) -> str:
        return "test" if len(self) == 360 else "other"

    def record(method: str) -> None:
        original = getattr(Batches, method)

        def wrapped(self: Batches, *args: Any) -> Any:
            touched.append(of(self.subset))
            return original(self, *args)

        monkeypatch.setattr(Batches, method, wrapped)

    record("inputs")
    record("targets")
    labels = Subset.labels.fget
    assert labels is not None
    monkeypatch.setattr(Subset, "labels", property(lambda self: (touched.append(of(self)), labels(self))[1]))
    session = Session(tiny.recipe(teacher, stages__0__snapshots=True), tmp_path)
    tiny.until(session, e.Preparing, what="evaluate")
    assert touched
    assert "test" not in touched
    tiny.finish(session)
    assert "test" in touched


# -- what is told --


def test_the_story_of_a_run(teacher: Path, tmp_path: Path) -> None:
    session = Session(tiny.recipe(teacher, stages__0__rivals=[tiny.PLAIN], hardware__cache="off"), tmp_path)
    told = tiny.finish(session)
    kinds = [type(event).__name__ for event in told if not isinstance(event, e.StepDone)]
    epoch = ["EpochDone", "EpochDone", "CheckpointSaved"]
    assert kinds == [
        *("RunStarted", "Preparing", "Preparing", "Preparing", "Preparing", "TeacherReady", "StageStarted"),
        *("CheckpointSaved", *epoch, *epoch),
        *("Preparing", "Evaluated", "Evaluated", "Evaluated", "Evaluated", "RunDone"),
    ]
    run = tiny.folder(session)
    assert [e.to_json(event) for event in run.events()] == [e.to_json(event) for event in told]
    assert sorted(path.name for path in run.folder.iterdir()) == [
        ".lock",
        "best.safetensors",
        "environment.json",
        "evaluation.json",
        "events.jsonl",
        "last.safetensors",
        "recipe.json",
        "summary.json",
    ]


def test_reports_add_up_to_the_epoch(teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kd_engine.journal.REPORT_S", 0.0)
    session = Session(tiny.recipe(teacher, data__labels_per_class=2), tmp_path)
    told = tiny.finish(session)
    reports, epochs = tiny.of(e.StepDone, told), tiny.of(e.EpochDone, told)
    assert [report.step for report in reports] == [1, 2, 3, 4, 5, 6]
    assert [report.epoch for report in reports] == [0, 0, 0, 1, 1, 1]
    for i, epoch in enumerate(epochs):
        mean = sum(report.loss for report in reports[3 * i : 3 * i + 3]) / 3
        assert epoch.train["loss"] == pytest.approx(mean)
    for report in reports:
        assert set(report.terms) == {"label", "kd"}
        assert report.loss == pytest.approx(sum(report.weighted.values()), rel=1e-5)
        assert report.weighted["kd"] == pytest.approx(0.9 * report.terms["kd"])
        assert report.samples_per_s > 0


def test_best_weights_are_those_of_the_best_epoch_on_validation(teacher: Path, tmp_path: Path) -> None:
    session = Session(
        tiny.recipe(teacher, stages__0__epochs=4, stages__0__optimizer={"name": "adamw"}), tmp_path
    )
    kept: dict[int, bytes] = {}
    for event in session:
        if isinstance(event, e.CheckpointSaved):
            kept[event.epoch] = tiny.folder(session).path(LAST).read_bytes()
    run = tiny.folder(session)
    epochs = tiny.of(e.EpochDone, run.events())
    top1 = [epoch.validation["top1"] for epoch in epochs]
    best = top1.index(max(top1)) + 1
    assert [epoch.best for epoch in epochs] == [t > max(top1[:i], default=-1) for i, t in enumerate(top1)]
    assert run.path("best.safetensors").read_bytes() == kept[best]
    student = tiny.figures(run)["students"]["student"]
    assert (student["best_epoch"], student["top1_validation_best"]) == (best, max(top1))


def test_without_a_validation_part_the_last_epoch_is_the_best_and_has_no_accuracy(
    teacher: Path, tmp_path: Path
) -> None:
    run = tiny.run(tiny.recipe(teacher, data__validation=0.0), tmp_path)
    student = tiny.figures(run)["students"]["student"]
    assert (student["best_epoch"], student["top1_validation_best"]) == (2, None)
    assert student["top1_test_best"] == student["top1_test_last"]
    assert [epoch.validation for epoch in tiny.of(e.EpochDone, run.events())] == [{}, {}]
    assert tiny.of(e.TeacherReady, run.events())[0].top1 is None
    assert tiny.weights(run, "best.safetensors").keys() == tiny.weights(run).keys()


def test_stages_follow_each_other_and_steps_count_on(teacher: Path, tmp_path: Path) -> None:
    session = Session(tiny.two_stages(teacher), tmp_path)
    told = tiny.finish(session)
    stages = tiny.of(e.StageStarted, told)
    assert [(stage.stage, stage.kind, stage.epochs) for stage in stages] == [
        (0, "train", 1),
        (1, "distill", 2),
    ]
    assert [(epoch.stage, epoch.epoch, epoch.step) for epoch in tiny.of(e.EpochDone, told)] == [
        (0, 1, 3),
        (1, 1, 6),
        (1, 2, 9),
    ]
    assert tiny.figures(tiny.folder(session))["epochs"] == 3


def test_a_second_stage_begins_with_the_weights_of_the_first(teacher: Path, tmp_path: Path) -> None:
    first = tiny.two_stages(teacher)
    alone = tiny.run(
        Recipe.from_document({**first.document(), "stages": first.document()["stages"][:1]}), tmp_path
    )
    session = Session(first, tmp_path)
    tiny.until(session, e.CheckpointSaved, stage=1, epoch=0)
    assert tiny.differing(tiny.folder(session), alone) == []
    tiny.finish(session)


def test_an_iterator_that_is_let_go_closes_the_run(teacher: Path, tmp_path: Path) -> None:
    session = Session(tiny.recipe(teacher), tmp_path)
    with closing(iter(session)):
        tiny.until(session, e.CheckpointSaved, epoch=1)
        assert tiny.folder(session).status() == "running"
    assert tiny.folder(session).status() == "interrupted"
    assert list(session) == []


def test_a_finished_session_has_nothing_more_to_say(teacher: Path, tmp_path: Path) -> None:
    session = Session(tiny.recipe(teacher), tmp_path)
    tiny.finish(session)
    session.send(Pause())
    assert list(session) == []


def test_a_finished_run_lets_go_of_its_models_at_once(teacher: Path, tmp_path: Path) -> None:
    """They may fill a GPU that the next run wants: this must not wait for the cyclic garbage collector."""
    tiny.run(tiny.recipe(teacher), tmp_path)  # the first one stays: see worker._warm_up
    methods = [{"method": "kd"}, {"method": "at", "weight": 10.0}]
    gc.collect()
    gc.disable()
    try:
        session = Session(tiny.recipe(teacher, stages__0__methods=methods), tmp_path)
        tiny.until(session, e.StageStarted)
        assert session._teacher is not None
        students = session._student.module, session._now.students[0].module
        held = [weakref.ref(model) for model in (session._teacher.module, *students)]
        del students
        tiny.finish(session)
        del session
        assert [ref() is None for ref in held] == [True, True, True]
    finally:
        gc.enable()


def test_commands_may_come_from_many_threads_at_once(teacher: Path, tmp_path: Path) -> None:
    session = Session(tiny.recipe(teacher, stages__0__epochs=4), tmp_path)
    told = tiny.until(session, e.StageStarted)

    def turn(start: int) -> None:
        for i in range(50):
            session.send(SetKnob(tiny.TEMPERATURE, 1.0 + start + i / 100))

    threads = [threading.Thread(target=turn, args=(start,)) for start in range(8)]
    for thread in threads:
        thread.start()
    told += tiny.until(session, e.Preparing, what="evaluate")
    for thread in threads:
        thread.join()
    told += tiny.finish(session)
    made = [change.new for change in tiny.of(e.KnobChanged, told)]
    refused = tiny.of(e.Refused, told)  # those that came too late
    assert len(made) + len(refused) == 400
    assert made
    for start in range(8):
        mine = [value for value in made if int(value) == 1 + start]
        assert mine == sorted(mine)


# -- chance within a step --


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Students draw lots at every step: a quarter of their features is dropped."""
    forward = Cnn.forward

    def dropping(self: Cnn, x: torch.Tensor) -> torch.Tensor:
        return forward(self, functional.dropout(x, 0.25, self.training))

    monkeypatch.setattr(Cnn, "forward", dropping)


@pytest.mark.usefixtures("forgetful")
def test_lots_drawn_in_a_step_depend_on_its_number_alone(teacher: Path, tmp_path: Path) -> None:
    """Not on the generators, on probes, on rivals, nor on a resume in the middle of an epoch."""
    alone = tiny.run(tiny.recipe(teacher), tmp_path / "alone")
    session = Session(tiny.recipe(teacher, stages__0__rivals=[tiny.PLAIN]), tmp_path)
    session.send(StepOnce())
    tiny.until(session, e.Paused)
    torch.manual_seed(99)
    session.send(AskProbe("grad-cam", 0))
    session.send(StepOnce())
    tiny.until(session, e.Paused)
    session.send(Stop())
    list(session)
    torch.manual_seed(100)
    again = Session.resume("last", tmp_path)
    tiny.finish(again)
    assert tiny.differing(tiny.folder(again), alone) == []


@pytest.mark.usefixtures("forgetful")
def test_lots_differ_from_step_to_step(
    teacher: Path, tmp_path: Path, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a learning rate of zero and one and the same batch, only the lots can change the loss."""
    monkeypatch.setattr("kd_engine.lockstep.plan", lambda *_: [Draw(np.arange(16), np.zeros(16, int))] * 3)
    still = {"name": "sgd", "lr": 0.0, "momentum": 0.0}
    tiny.run(tiny.recipe(teacher, stages__0__optimizer=still, stages__0__epochs=1), tmp_path)
    assert len({step.loss for step in steps}) == 3


@pytest.mark.parametrize("every_s", [0.0, 1000.0])
def test_an_epochs_figures_do_not_depend_on_how_often_is_reported(
    every_s: float, undisturbed: RunFolder, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "REPORT_S", every_s)
    run = tiny.run(tiny.recipe(teacher), tmp_path)
    reports = tiny.of(e.StepDone, run.events())
    assert len(reports) == (6 if every_s == 0 else 2)
    ours, theirs = (
        [(done.train, done.validation) for done in tiny.of(e.EpochDone, one.events())]
        for one in (run, undisturbed)
    )
    assert ours == theirs
