"""Stopped, killed and failed runs go on as if nothing had happened: the same weights, bit for bit, and a log
that tells one story."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from kd_engine import checkpoint, disk, run_log, store
from kd_engine import events as e
from kd_engine.commands import Continue, Pause, SetKnob, StepOnce, Stop
from kd_engine.errors import StoreError
from kd_engine.keeper import Keeper
from kd_engine.packing import pack, unpack
from kd_engine.recipe import Recipe
from kd_engine.session import Session
from kd_engine.store import BEST, LAST, RESUME, RunFolder, Store
from tests.engine import tiny
from tests.engine.conftest import BEGIN

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def long(teacher: Path) -> Recipe:
    """Two stages, a rival, pictures, and figures that get better and worse."""
    return tiny.two_stages(teacher).with_changes(
        {
            "stages.1.rivals": [tiny.PLAIN],
            "stages.1.optimizer.lr": 0.2,
            "stages.1.epochs": 3,
            "stages.1.snapshots": True,
            "data.labels_per_class": 2,
        }
    )


@pytest.fixture(scope="module")
def left_alone(long: Recipe, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return tiny.run(long, tmp_path_factory.mktemp("left_alone"))


def only(runs: Path) -> RunFolder:
    (info,) = Store(runs).runs()
    return RunFolder(info.folder)


def unfinished(runs: Path) -> bool:
    """Whether there is something to resume, be it only the last line of the log."""
    run = only(runs)
    return run.status() != "done" or run.path(RESUME).exists()


def go_on(runs: Path) -> RunFolder:
    """Resume the only run there is, to its end."""
    session = Session.resume(only(runs).name, runs)
    tiny.finish(session)
    return tiny.folder(session)


def assert_one_story(run: RunFolder) -> None:
    """Every epoch, picture and examination once, in order; steps never go back; one end.

    A checkpoint is told when it is on the disk: the next steps may have been reported by then.
    """
    told = list(run.events())
    epochs = [(epoch.stage, epoch.epoch, epoch.student) for epoch in tiny.of(e.EpochDone, told)]
    stages = {stage.stage: stage for stage in tiny.of(e.StageStarted, told)}
    assert epochs == [
        (i, epoch + 1, name)
        for i, stage in stages.items()
        for epoch in range(stage.epochs)
        for name in stage.students
    ]
    saved = tiny.of(e.CheckpointSaved, told)
    others = [event for event in told if hasattr(event, "step") and event not in saved]
    for steps in ([event.step for event in saved], [event.step for event in others]):
        assert steps == sorted(steps)
    examined = [(figures.student, figures.weights) for figures in tiny.of(e.Evaluated, told)]
    assert len(examined) == len(set(examined))
    assert [type(event) for event in told if isinstance(event, e.ENDS)] == [e.RunDone]


# -- stop and keep --


@pytest.mark.parametrize("step", [0, 1, 2, 3, 4, 5, 6])
def test_stopped_at_any_step_a_run_goes_on_bit_for_bit(
    undisturbed: RunFolder, teacher: Path, tmp_path: Path, step: int
) -> None:
    session = Session(tiny.recipe(teacher), tmp_path)
    for _ in range(step):
        session.send(StepOnce())
    tiny.until(session, e.Paused, step=step) if step else tiny.until(session, e.StageStarted)
    session.send(Stop())
    assert isinstance(list(session)[-1], e.RunStopped)
    run = go_on(tmp_path)
    tiny.assert_same_run(run, undisturbed)
    assert_one_story(run)


def test_a_run_stopped_over_and_over_goes_on_bit_for_bit(
    left_alone: RunFolder, long: Recipe, tmp_path: Path
) -> None:
    session = Session(long, tmp_path)
    for turn in itertools.count():
        session.send(StepOnce())
        session.send(StepOnce())
        for event in session:
            if isinstance(event, e.Paused) and event.step >= 2 * turn + 1:
                session.send(Stop())
        if isinstance(event, e.RunDone):
            break
        session = Session.resume("last", tmp_path)
    assert turn >= 5
    tiny.assert_same_run(only(tmp_path), left_alone)
    assert_one_story(only(tmp_path))


def test_live_changes_before_and_after_a_stop_hold(teacher: Path, tmp_path: Path) -> None:
    changes = [(1, tiny.TEMPERATURE, 9.0), (4, tiny.LR, 0.01), (5, tiny.KD_WEIGHT, 0.3)]
    session = Session(tiny.recipe(teacher), tmp_path / "stopped", changes=changes[:1])
    session.send(StepOnce("epoch"))
    tiny.until(session, e.Paused)
    session.send(StepOnce())
    tiny.until(session, e.Paused)
    session.send(SetKnob(tiny.LR, 0.01))
    session.send(Stop())
    list(session)
    again = Session.resume("last", tmp_path / "stopped")
    again.send(StepOnce())
    tiny.until(again, e.Paused)
    again.send(SetKnob(tiny.KD_WEIGHT, 0.3))
    again.send(Continue())
    tiny.finish(again)
    at_once = tiny.run(tiny.recipe(teacher), tmp_path / "at once", changes=changes)
    tiny.assert_same_run(tiny.folder(again), at_once)
    assert tiny.changes(tiny.folder(again)) == changes


def test_a_run_stopped_before_its_first_checkpoint_begins_anew(
    undisturbed: RunFolder, teacher: Path, tmp_path: Path
) -> None:
    session = Session(tiny.recipe(teacher), tmp_path)
    tiny.until(session, e.Preparing)
    session.send(Stop())
    list(session)
    assert not only(tmp_path).path(RESUME).exists()
    assert only(tmp_path).resumable()
    tiny.assert_same_run(go_on(tmp_path), undisturbed)


def test_a_resume_says_that_it_is_one(teacher: Path, tmp_path: Path) -> None:
    session = Session(tiny.recipe(teacher), tmp_path, changes=[(1, tiny.TEMPERATURE, 9.0)])
    tiny.until(session, e.CheckpointSaved, epoch=1)
    session.send(Stop())
    list(session)
    again = Session.resume("last", tmp_path)
    resumed = next(iter(again))
    assert isinstance(resumed, e.RunResumed)
    assert (resumed.stage, resumed.epoch, resumed.step) == (0, 1, 3)
    assert resumed.recipe["stages"][0]["methods"][0]["temperature"] == 9.0
    assert not tiny.of(e.RunStarted, tiny.finish(again))


# -- kill -9 --


class Blows:
    """Everything that is written to the disk, counted; at the blow that is given, `strike` falls while it is
    half done: half of a file's bytes, half of an event's line, a file written but not yet renamed."""

    def __init__(self, at: int, strike: Callable[[], object]) -> None:
        self.count = itertools.count(1)
        self.at = at
        self.strike = strike
        self.made = 0

    def falls(self) -> bool:
        self.made = next(self.count)
        return self.made == self.at

    def install(self, patch: pytest.MonkeyPatch) -> None:
        replace, write_bytes, write_text = os.replace, Path.write_bytes, Path.write_text
        unlink = Path.unlink

        def half_a_file(path: Path, content: Any) -> int:
            if self.falls():
                write_bytes(path, bytes(content)[: len(content) // 2])
                self.strike()
            return write_bytes(path, content)

        def half_a_text(path: Path, content: str, **more: Any) -> int:
            if self.falls():
                write_text(path, content[: len(content) // 2], **more)
                self.strike()
            return write_text(path, content, **more)

        def before_and_after(*paths: Any) -> None:
            if self.falls():
                self.strike()
            replace(*paths)
            if self.falls():
                self.strike()

        def log_that_tears(file: Path, mode: str, **more: Any) -> Any:
            return Log(self, open(file, mode, **more)) if mode == "ab" else open(file, mode, **more)

        def forget(path: Path, **more: Any) -> None:
            if path.name == RESUME and self.falls():
                self.strike()
            unlink(path, **more)

        patch.setattr(Path, "write_bytes", half_a_file)
        patch.setattr(Path, "write_text", half_a_text)
        patch.setattr(disk.os, "replace", before_and_after)
        patch.setattr(run_log, "open", log_that_tears, raising=False)
        patch.setattr(Path, "unlink", forget)


class Log:
    """events.jsonl, which may get half a line."""

    def __init__(self, blows: Blows, file: Any) -> None:
        self.blows = blows
        self.file = file

    def write(self, line: bytes) -> int:
        if self.blows.falls():
            self.file.write(line[: len(line) // 2])
            self.blows.strike()
        return int(self.file.write(line))

    def close(self) -> None:
        self.file.close()


def killed(work: Callable[[], Session], blow: int) -> bool:
    """Run it in a process of its own that is killed at that blow. False: it came to its end before."""

    def run() -> None:
        with pytest.MonkeyPatch.context() as patch:
            Blows(blow, tiny.die).install(patch)
            for _ in work():
                pass

    ended = tiny.in_child(run)
    assert ended in (0, signal.SIGKILL)
    return ended == signal.SIGKILL


@pytest.fixture(scope="module")
def blows(long: Recipe, tmp_path_factory: pytest.TempPathFactory) -> int:
    """How many there are in the run."""
    counter = Blows(0, tiny.die)
    with pytest.MonkeyPatch.context() as patch:
        counter.install(patch)
        patch.setattr("kd_engine.journal.REPORT_S", 1e9)
        tiny.run(long, tmp_path_factory.mktemp("counted"))
    assert counter.made > 80
    return counter.made


@pytest.mark.parametrize("seed", range(10))
def test_killed_anywhere_also_twice_a_run_goes_on_bit_for_bit(
    left_alone: RunFolder,
    long: Recipe,
    tmp_path: Path,
    blows: int,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kd_engine.journal.REPORT_S", 1e9)
    if seed % 2:  # checkpoints beside the training, as users have them
        monkeypatch.setattr(Keeper, "begin", BEGIN)
    chance = random.Random(seed)
    assert killed(lambda: Session(long, tmp_path), chance.randint(4, blows))
    killed(lambda: Session.resume("last", tmp_path), chance.randint(1, blows))
    run = go_on(tmp_path) if unfinished(tmp_path) else only(tmp_path)
    assert run.status() == "done"
    tiny.assert_same_run(run, left_alone)
    assert_one_story(run)
    pictures = {path.name for path in left_alone.path("snapshots").iterdir()}
    assert {path.name for path in run.path("snapshots").glob("*.npz")} == pictures


def test_killed_in_the_last_evaluation_a_run_is_only_evaluated_again(
    left_alone: RunFolder, long: Recipe, tmp_path: Path
) -> None:
    def run() -> None:
        for event in Session(long, tmp_path):
            if isinstance(event, e.Evaluated) and event.student == "student":
                tiny.die()

    assert tiny.in_child(run) == signal.SIGKILL
    session = Session.resume("last", tmp_path)
    told = tiny.finish(session)
    assert not tiny.of(e.StepDone, told)
    tiny.assert_same_run(tiny.folder(session), left_alone)
    assert_one_story(tiny.folder(session))


def test_the_command_line_is_killed_and_resumes(
    undisturbed: RunFolder, teacher: Path, tmp_path: Path
) -> None:
    """The real thing, from outside, between two lines of its output."""
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps(tiny.document(teacher)))
    command = [sys.executable, "-m", "kd_engine"]
    more = ["--runs", str(tmp_path / "runs"), "--jsonl"]
    with subprocess.Popen([*command, "run", str(recipe), *more], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if json.loads(line)["event"] == "EpochDone":
                child.kill()
                break
    run = only(tmp_path / "runs")
    assert (run.status(), run.resumable()) == ("interrupted", True)
    assert tiny.in_child(lambda: go_on(tmp_path / "runs")) == 0
    tiny.assert_same_run(run, undisturbed)
    assert_one_story(run)


# -- live changes and kills --


def killed_at_step(session: Callable[[], Session], step: int, *commands: Any) -> None:
    """Move a session in another process; at this step, paused, send it the commands and kill it."""

    def run() -> None:
        moving = session()
        while True:
            moving.send(StepOnce())
            if tiny.until(moving, e.Paused)[-1].step == step:  # type: ignore[attr-defined]
                break
        for command in commands:
            moving.send(command)
        moving.send(Pause())  # refused: the last answer
        tiny.until(moving, e.Refused)
        tiny.die()

    assert tiny.in_child(run) == signal.SIGKILL


def test_changes_that_a_kill_undid_are_made_again_in_their_order(teacher: Path, tmp_path: Path) -> None:
    back_and_forth = [SetKnob(tiny.TEMPERATURE, value) for value in (8.0, 4.0, 8.0)]
    runs = tmp_path / "killed"
    killed_at_step(lambda: Session(tiny.recipe(teacher), runs), 4, *back_and_forth)
    killed_at_step(lambda: Session.resume("last", runs), 5, SetKnob(tiny.LR, 0.3))
    killed_at_step(lambda: Session.resume("last", runs), 4)
    killed_at_step(lambda: Session.resume("last", runs), 5, SetKnob(tiny.TEMPERATURE, 3.0))
    run = go_on(runs)
    changes = [
        *((4, tiny.TEMPERATURE, value) for value in (8.0, 4.0, 8.0)),
        (5, tiny.LR, 0.3),
        (5, tiny.TEMPERATURE, 3.0),
    ]
    assert tiny.changes(run) == changes
    tiny.assert_same_run(run, tiny.run(tiny.recipe(teacher), tmp_path / "at once", changes=changes))
    assert_one_story(run)


def test_changes_at_the_very_step_of_a_checkpoint_are_told_once(teacher: Path, tmp_path: Path) -> None:
    runs = tmp_path / "killed"
    at_checkpoint = SetKnob(tiny.TEMPERATURE, 8.0)
    killed_at_step(lambda: Session(tiny.recipe(teacher), runs), 3, at_checkpoint)
    killed_at_step(lambda: Session.resume("last", runs), 4)
    run = go_on(runs)
    assert tiny.changes(run) == [(3, tiny.TEMPERATURE, 8.0)]
    tiny.assert_same_run(
        run, tiny.run(tiny.recipe(teacher), tmp_path / "at once", changes=[(3, tiny.TEMPERATURE, 8.0)])
    )


def test_changes_before_the_first_checkpoint_survive_a_kill(teacher: Path, tmp_path: Path) -> None:
    def run() -> None:
        session = Session(tiny.recipe(teacher), tmp_path / "killed", changes=[(0, tiny.TEMPERATURE, 8.0)])
        tiny.until(session, e.KnobChanged)
        tiny.folder(session).path(RESUME).unlink()
        tiny.die()

    assert tiny.in_child(run) == signal.SIGKILL
    run_again = go_on(tmp_path / "killed")
    changes = [(0, tiny.TEMPERATURE, 8.0)]
    assert tiny.changes(run_again) == changes
    tiny.assert_same_run(run_again, tiny.run(tiny.recipe(teacher), tmp_path, changes=changes))


def test_best_weights_never_come_from_a_future_that_a_kill_undid(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top1 = iter([0.5, 0.9, 0.1])
    monkeypatch.setattr("kd_engine.validation.Validation.figures", lambda *_: {"top1": next(top1)})

    def run() -> None:
        def die(*_: Any) -> None:
            if any(isinstance(event, e.EpochDone) and event.epoch == 2 for event in only(tmp_path).events()):
                tiny.die()

        with pytest.MonkeyPatch.context() as patch:
            save = checkpoint.save
            patch.setattr(checkpoint, "save", lambda *both: (die(), save(*both))[1])
            list(Session(tiny.recipe(teacher), tmp_path))

    assert tiny.in_child(run) == signal.SIGKILL
    first = tiny.weights(only(tmp_path), BEST)
    next(top1), next(top1)  # as the child did
    session = Session.resume("last", tmp_path)
    told = tiny.finish(session)
    assert [epoch.best for epoch in tiny.of(e.EpochDone, told)] == [False]
    best = tiny.weights(tiny.folder(session), BEST)
    assert all(torch.equal(best[name], first[name]) for name in first)


def test_best_weights_that_a_kill_left_unwritten_are_written_by_the_resume(
    undisturbed: RunFolder, teacher: Path, tmp_path: Path
) -> None:
    def die_at_once(*_: Any) -> None:
        tiny.die()

    def run() -> None:
        session = Session(tiny.recipe(teacher), tmp_path)
        tiny.until(session, e.EpochDone, best=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("kd_engine.weights.save_state", die_at_once)
            list(session)

    assert tiny.in_child(run) == signal.SIGKILL
    assert not only(tmp_path).path(BEST).exists()
    session = Session.resume("last", tmp_path)
    with closing(iter(session)):
        tiny.until(session, e.StageStarted)
        assert only(tmp_path).path(BEST).exists()
    tiny.assert_same_run(go_on(tmp_path), undisturbed)


# -- checkpoints within an epoch --


def test_long_epochs_are_saved_on_the_way_and_resumed_from_there(
    undisturbed: RunFolder, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kd_engine.session.CHECKPOINT_S", -1.0)
    session = Session(tiny.recipe(teacher), tmp_path)
    with closing(iter(session)):
        tiny.until(session, e.CheckpointSaved, step=5)
    monkeypatch.undo()
    again = Session.resume("last", tmp_path)
    resumed = next(iter(again))
    assert isinstance(resumed, e.RunResumed)
    assert (resumed.epoch, resumed.step) == (1, 5)
    tiny.finish(again)
    tiny.assert_same_run(tiny.folder(again), undisturbed)
    epochs = tiny.of(e.EpochDone, tiny.folder(again).events())
    theirs = tiny.of(e.EpochDone, undisturbed.events())
    assert [epoch.train for epoch in epochs] == [
        pytest.approx(epoch.train) for epoch in theirs
    ]  # means over the whole epoch


# -- what cannot be resumed --


@pytest.fixture
def stopped(teacher: Path, tmp_path: Path) -> RunFolder:
    session = Session(tiny.recipe(teacher), tmp_path)
    tiny.until(session, e.CheckpointSaved, epoch=1)
    session.send(Stop())
    list(session)
    return tiny.folder(session)


def refused(run: RunFolder) -> str:
    """Why it cannot be resumed; it is as it was afterwards, and nobody holds its lock."""
    files = (path for path in run.folder.rglob("*") if path.is_file() and path.name != store.LOCK)
    before = {path: path.read_bytes() for path in files}
    with pytest.raises(StoreError) as told:
        Session.resume(run.folder)
    assert {path: path.read_bytes() for path in before} == before
    assert not run.locked()
    return str(told.value)


def test_a_complete_run_is_not_resumed(undisturbed: RunFolder) -> None:
    assert "this run is complete" in refused(undisturbed)


def test_a_run_that_is_going_is_not_resumed(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "PATIENCE_S", 0.05)
    session = Session(tiny.recipe(teacher), tmp_path)
    with closing(iter(session)):
        tiny.until(session, e.CheckpointSaved)
        with pytest.raises(StoreError, match="another process is training this run"):
            Session.resume("last", tmp_path)
        assert tiny.folder(session).status() == "running"


def test_a_run_from_a_newer_version_is_not_resumed(stopped: RunFolder) -> None:
    document = stopped.recipe()
    stopped.write_json("recipe.json", {**document, "version": 2})
    assert "made by a newer version of kd-studio (recipe version 2" in refused(stopped)


def test_a_checkpoint_from_a_newer_version_is_not_resumed(stopped: RunFolder) -> None:
    content = torch.load(stopped.path(RESUME), weights_only=True)
    torch.save({**content, "version": 99}, stopped.path(RESUME))
    assert "made by a newer version" in refused(stopped)


@pytest.mark.parametrize("version", [1, 2])
def test_a_checkpoint_of_an_older_version_is_resumed(
    undisturbed: RunFolder, teacher: Path, tmp_path: Path, version: int
) -> None:
    session = Session(tiny.recipe(teacher), tmp_path)
    session.send(StepOnce("batch"))
    tiny.until(session, e.Paused)
    session.send(Stop())
    run = list(session) and tiny.folder(session)
    content = torch.load(run.path(RESUME), weights_only=True)
    students = unpack(content["students"], content.pop("memory"))
    for student in students.values():
        tally = student.pop("tally")
        assert 1 <= tally["steps"] < tiny.STEPS  # it was stopped within an epoch
        means: dict[str, Any] = {"terms": {}, "weighted": {}, "bad": None, "bad_terms": ()}
        means["loss"] = tally.pop("losses") / tally["steps"]
        student["epoch"] = {**means, **tally}
    memory: Any = []
    if version == 2:
        students, memory = pack(students)
    torch.save({**content, "version": version, "students": students, "memory": memory}, run.path(RESUME))
    tiny.assert_same_run(go_on(tmp_path), undisturbed)
    ours, theirs = (
        [done.train["loss"] for done in tiny.of(e.EpochDone, one.events())] for one in (run, undisturbed)
    )
    assert ours == pytest.approx(theirs)


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("executed",))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a checkpoint",
        pickle.dumps({"version": 1}),
        pickle.dumps(Payload()),
    ],
    ids=["empty", "text", "pickle", "code"],
)
def test_a_checkpoint_that_is_none_is_refused_and_never_run(
    stopped: RunFolder, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stopped.path(RESUME).write_bytes(content)
    assert "not a readable checkpoint" in refused(stopped)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "content", [{"version": 1}, {"version": "1"}, ["version"], {"version": 1, "progress": 3}]
)
def test_a_checkpoint_of_another_shape_is_refused(stopped: RunFolder, content: Any) -> None:
    torch.save(content, stopped.path(RESUME))
    assert "not a readable checkpoint" in refused(stopped)


@pytest.mark.parametrize("memory", [[], [3], 3, [torch.ones(1)], None])
def test_a_checkpoint_without_its_tensors_is_refused(stopped: RunFolder, memory: Any) -> None:
    content = torch.load(stopped.path(RESUME), weights_only=True)
    torch.save({**content, "memory": memory}, stopped.path(RESUME))
    assert "not a readable checkpoint" in refused(stopped)


def test_half_a_checkpoint_is_refused(stopped: RunFolder) -> None:
    whole = stopped.path(RESUME).read_bytes()
    stopped.path(RESUME).write_bytes(whole[: len(whole) // 2])
    assert "not a readable checkpoint" in refused(stopped)


def test_another_number_of_threads_is_said(stopped: RunFolder) -> None:
    content = torch.load(stopped.path(RESUME), weights_only=True)
    torch.save({**content, "threads": 64}, stopped.path(RESUME))
    session = Session.resume(stopped.folder)
    notices = [n for n in tiny.of(e.Notice, tiny.finish(session)) if n.level == "warning"]
    assert [notice.code for notice in notices] == ["threads"]
    assert "64 CPU threads, going on with 1" in notices[0].message


def test_other_data_than_at_the_start_are_said(stopped: RunFolder) -> None:
    content = torch.load(stopped.path(RESUME), weights_only=True)
    torch.save({**content, "data": "of other images"}, stopped.path(RESUME))
    notices = [
        n for n in tiny.of(e.Notice, tiny.finish(Session.resume(stopped.folder))) if n.level == "warning"
    ]
    assert [notice.code for notice in notices] == ["data"]


def test_a_copy_of_a_run_is_resumed_where_it_lies(
    undisturbed: RunFolder, stopped: RunFolder, tmp_path: Path
) -> None:
    copy = tmp_path / "elsewhere" / "copied"
    copy.mkdir(parents=True)
    for file in stopped.folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    session = Session.resume(copy)
    tiny.finish(session)
    assert tiny.folder(session).folder == copy
    tiny.assert_same_run(tiny.folder(session), undisturbed)
    assert stopped.status() == "stopped"


def test_last_weights_are_those_of_the_last_checkpoint(stopped: RunFolder) -> None:
    saved = checkpoint.load(stopped).students["student"]["lesson"]
    kept = tiny.weights(stopped, LAST)
    assert all(torch.equal(saved[f"student.{name}"], value) for name, value in kept.items())


# -- which changes are to be made again: every way in which attempts can follow each other --


def log(run: RunFolder, *told: e.Event) -> None:
    for event in told:
        run.append(event)


def saved(step: int) -> e.Event:
    return e.CheckpointSaved(stage=0, epoch=0, step=step, path="", bytes=0, ms=0.0)


def changed(step: int, value: Any) -> e.Event:
    return e.KnobChanged(step=step, path="p", old=None, new=value)


def resumed(step: int) -> e.Event:
    return e.RunResumed(run="", folder="", recipe={}, environment={}, stage=0, epoch=0, step=step)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunFolder]:
    made = Store(tmp_path).create({"name": "log"})
    yield made
    made.close()


@pytest.mark.parametrize(
    ("told", "again"),
    [
        ([], []),
        ([changed(1, "a"), saved(4)], []),
        ([saved(4), changed(5, "a")], [(5, "a")]),
        ([saved(4), changed(4, "a"), saved(4), changed(4, "b")], [(4, "b")]),
        ([saved(4), changed(6, "a"), changed(6, "b"), changed(6, "a")], [(6, "a"), (6, "b"), (6, "a")]),
        # one attempt made them again, another did not live that long, a third made some
        ([saved(4), changed(6, "a"), resumed(4), changed(6, "a")], [(6, "a")]),
        ([saved(4), changed(6, "a"), resumed(4)], [(6, "a")]),
        (
            [saved(4), changed(6, "a"), changed(9, "b"), resumed(4), changed(6, "a"), resumed(4)],
            [(6, "a"), (9, "b")],
        ),
        # a new one came in between
        (
            [saved(4), changed(6, "a"), changed(9, "b"), resumed(4), changed(6, "a"), changed(7, "c")],
            [(6, "a"), (7, "c"), (9, "b")],
        ),
        # the checkpoint's own event was lost: what was changed at its step may be in it, and does no harm
        ([saved(0), changed(2, "a"), changed(4, "b")], [(4, "b")]),
    ],
)
def test_the_changes_after_a_checkpoint(run: RunFolder, told: list[e.Event], again: list[Any]) -> None:
    log(run, *told)
    assert checkpoint.changes_after(run, 4) == [(step, "p", value) for step, value in again]
