"""A step that is recorded and replayed: the same numbers, and what cannot be recorded is found out."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kd_engine import events as e
from kd_engine.backend import Backend, reseed
from kd_engine.classroom import Classroom
from kd_engine.commands import AskProbe, Stop
from kd_engine.data import plan
from kd_engine.errors import KdError
from kd_engine.recipe import Recipe
from kd_engine.recipe_knobs import HardwareKnobs
from kd_engine.registry import discover
from kd_engine.replay import BEFORE, Given, Numbers, Reads, Replay, Watched
from kd_engine.schedules import Clock, between
from kd_engine.session import Session
from kd_engine.trainee import Trainee
from tests.engine import tiny
from tests.engine.tape import TapeRecorder

MADE = 2 * BEFORE + 2  # steps of a full batch: half of them replayed

# What is launched kernel by kernel, and why.
MOVES, SOLVES = "moves with the step", "looks whether it succeeded"
KERNEL_BY_KERNEL = {"ctkd": MOVES, "kdsvd": SOLVES}


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch) -> list[TapeRecorder]:
    """Every student's, in the order in which they were made; from now on runs are recorded."""
    made: list[TapeRecorder] = []

    def recorder(_: Backend) -> TapeRecorder:
        made.append(TapeRecorder())
        return made[-1]

    monkeypatch.setattr(Backend, "recorder", recorder)
    return made


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and nothing is recorded any more: all else is as it was."""
    return lambda: monkeypatch.setattr("kd_engine.replay.BEFORE", 10**9)


def taught(name: str) -> tuple[Trainee, list[dict[str, Any]]]:
    """A student after some steps, and what its reports said. Peers are not replayed: one of them, with a
    teacher."""
    made = tiny.teaching(name)
    made["stages"] = [made["stages"][0] | {"stage": "distill"}]
    made["teacher"] = made["teacher"] or made["student"]
    recipe = Recipe.from_document(made)
    room = Classroom(recipe, Path())
    teacher = room.teacher()
    assert teacher is not None
    (trainee,) = room.trainees(0, room.student(), teacher)
    trainee.set_knobs(recipe.document())
    reports = []
    draws = [draw for epoch in range(MADE) for draw in plan(len(room.data.train), 16, epoch, 0, 4)[:2]]
    for step, batch in enumerate(room.batches("train").stream(draws[:MADE])):
        batch = batch._replace(inputs=room.backend.lay_out(batch.inputs))
        said = teacher.signals(batch)
        reseed("step", step)
        trainee.learn(step, 0.05 / (step + 1), batch, said, Clock(step / MADE, (step + 1) / MADE))
        reports.append(vars(trainee.report()))
    trainee.close()
    teacher.close()
    return trainee, reports


@pytest.mark.parametrize("name", sorted(discover("methods").plugins))
def test_every_method_s_steps_are_the_same_replayed(
    name: str, recorders: list[TapeRecorder], never: Callable[[], None]
) -> None:
    trainee, reports = taught(name)
    never()
    other, others = taught(name)
    why = trainee.why_not_recorded()
    if name in KERNEL_BY_KERNEL:
        assert why is not None
        assert why.endswith(KERNEL_BY_KERNEL[name])
        assert not recorders[0].tapes
        assert reports == others
        return
    assert why is None
    (tape,) = recorders[0].tapes
    assert tape.replays == MADE - BEFORE
    for one, two in zip(reports, others, strict=True):  # where tensors lie in memory moves last bits
        assert one["terms"] == pytest.approx(two["terms"], rel=1e-4, abs=1e-6)
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-4)
    for key, kept in trainee.lesson.state_dict().items():
        torch.testing.assert_close(kept, other.lesson.state_dict()[key], rtol=1e-3, atol=1e-4)


def run(runs: Path, **changes: Any) -> tuple[list[e.Event], dict[str, Tensor]]:
    """A run of three steps an epoch, the last with fewer samples; what it told, and its weights."""
    session = Session(tiny.recipe(None, **changes), runs)
    told = []
    for event in session:
        told.append(event)
        if isinstance(event, e.EpochDone) and event.epoch == 5:
            session.send(tiny.set_temperature(8.0))
            session.send(AskProbe("features", 0, "stage1"))
    assert isinstance(told[-1], e.RunDone), told[-1]
    return told, tiny.weights(tiny.folder(session))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_run_with_changes_and_probes_is_the_same_replayed(
    optimizer: str,
    recorders: list[TapeRecorder],
    never: Callable[[], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kd_engine.journal.REPORT_S", 0.0)  # every step tells
    changes = {"stages__0__epochs": 9, "stages__0__optimizer": {"name": optimizer}}
    told, weights = run(tmp_path / "replayed", **changes)
    never()
    others, other = run(tmp_path / "made", **changes)
    # of two whole batches and an odd one in each of five epochs, then of four at another temperature
    replays = [tape.replays for tape in recorders[0].tapes]
    assert replays == [epochs * n - BEFORE for epochs in (5, 4) for n in (2, 1)]
    for one, two in zip(tiny.of(e.StepDone, told), tiny.of(e.StepDone, others), strict=True):
        assert (one.step, one.lr) == (two.step, two.lr)
        assert one.terms == pytest.approx(two.terms, rel=1e-4)
    for key in weights:
        torch.testing.assert_close(weights[key], other[key], rtol=1e-3, atol=1e-5)


def test_a_resumed_run_is_recorded_anew(
    recorders: list[TapeRecorder], never: Callable[[], None], tmp_path: Path
) -> None:
    made = tiny.recipe(None, stages__0__epochs=6)
    session = Session(made, tmp_path)
    for event in session:
        if isinstance(event, e.EpochDone) and event.epoch == 3:
            session.send(Stop())
    resumed = Session.resume("last", tmp_path)
    tiny.finish(resumed)
    assert [len(recorder.tapes) for recorder in recorders] == [1, 1]
    never()
    whole = tiny.run(made, tmp_path / "whole")
    ours, theirs = tiny.weights(tiny.folder(resumed)), tiny.weights(whole)
    for key in ours:
        torch.testing.assert_close(ours[key], theirs[key], rtol=1e-3, atol=1e-5)


def test_a_restored_learning_rate_stays_where_the_recording_reads_it(recorders: list[TapeRecorder]) -> None:
    """A checkpoint is read into the host's memory; torch takes its tensor as it is."""
    trainee, _ = taught("kd")
    (group,) = trainee.optimizer.param_groups
    here = group["lr"]
    trainee.restore(copy.deepcopy(trainee.state()))
    assert trainee.optimizer.param_groups[0]["lr"] is here


def test_the_user_hears_once_why_steps_are_not_recorded(
    recorders: list[TapeRecorder], tmp_path: Path
) -> None:
    moving = {"method": "kd", "weight_schedule": "linear"}
    told = tiny.finish(Session(tiny.recipe(None, stages__0__methods=[moving]), tmp_path))
    (notice,) = [notice for notice in tiny.of(e.Notice, told) if notice.code == "graph"]
    assert notice.level == "info"
    assert notice.message == (
        "The steps of 'student' are launched kernel by kernel: a weight or a temperature moves with the step."
    )


def test_a_warm_up_is_recorded_when_it_is_over(recorders: list[TapeRecorder], tmp_path: Path) -> None:
    warming = {"method": "kd", "weight_schedule": "warm-up", "weight_warmup": 0.5}
    recipe = tiny.recipe(None, stages__0__methods=[warming], stages__0__epochs=8)
    told = tiny.finish(Session(recipe, tmp_path))
    full, odd = recorders[0].tapes
    assert full.replays == 4 * 2 - BEFORE
    assert odd.replays == 4 + 1 - BEFORE  # the step that reaches the end of the warm-up counts
    assert [notice.code for notice in tiny.of(e.Notice, told)].count("graph") == 1


def test_a_recording_that_is_refused_ends_the_run_and_says_the_way_out(
    recorders: list[TapeRecorder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        raise RuntimeError("CUDA error: operation not permitted\nand much more")

    monkeypatch.setattr(TapeRecorder, "record", refuse)
    *_, failed = Session(tiny.recipe(None, stages__0__epochs=9), tmp_path)
    assert isinstance(failed, e.RunFailed)
    assert failed.resumable
    assert failed.message.startswith(
        "hardware.graph: the step could not be recorded (CUDA error: operation not"
    )
    assert "and much more" not in failed.message
    assert failed.hint is not None
    assert failed.hint.startswith("Set it to false")


def test_without_a_gpu_it_is_refused() -> None:
    with pytest.raises(KdError, match=r"hardware\.graph: .* there is none"):
        Backend(HardwareKnobs(device="cpu", graph=True))


# -- what a recording cannot hold --


@pytest.mark.parametrize(
    ("work", "found"),
    [
        (lambda x: x.sum().item(), "reads a number"),
        (lambda x: bool((x > 0).all()), "reads a number"),
        (lambda x: x[x > 0], "how many"),
        (lambda x: x.nonzero(), "how many"),
        (lambda x: x.masked_select(x > 0), "how many"),
        (lambda x: x.masked_fill(x > 0, 0.0), ""),
        (lambda x: torch.linalg.svdvals(x), "svd looks"),
        (lambda x: torch.linalg.vector_norm(x), ""),
        (lambda x: x + torch.tensor(3.0), "number of Python's"),
        (lambda x: 3.0 * x.softmax(-1), ""),
        (lambda x: x.to("meta"), "between devices"),
        (lambda x: torch.cat([x, x])[torch.tensor([0, 1])], "number of Python's"),
        (lambda x: x.dropout(0.5, True) if hasattr(x, "dropout") else torch.dropout(x, 0.5, True), ""),
    ],
)
def test_what_waits_for_the_device_is_seen(work: Callable[[Tensor], Any], found: str) -> None:
    x = torch.randn(3, 3)
    with Reads() as reads:  # type: ignore[no-untyped-call]
        work(x)
    assert found in reads.found
    assert bool(found) == bool(reads.found)


@pytest.mark.parametrize(
    ("course", "share", "moved"),
    [
        ("constant", 0.1, False),
        ("linear", 0.1, True),
        ("cosine", 0.9, True),
        ("warm-up", 0.1, True),
        ("warm-up", 0.5, False),
    ],
)
def test_a_clock_knows_who_would_see_another_time(course: Any, share: float, moved: bool) -> None:
    clock = Watched(1.0, share)
    assert between(course, clock, 1.0, 0.0, 0.5) == between(course, Clock(1.0, share), 1.0, 0.0, 0.5)
    assert clock.moved is moved


def test_a_step_of_another_form_has_a_recording_of_its_own() -> None:
    recorder = TapeRecorder()

    def step(given: Given, _: Clock) -> Numbers:
        return Numbers((), (), (given.inputs.sum(), given.target.sum()))

    replay = Replay(step, recorder)
    for n in (2, 3) * (BEFORE + 2):
        inputs, target = torch.randn(n, 3, 4, 4), torch.arange(n).float()
        said = replay(Given(inputs, torch.arange(n), target, None), Clock(0.0, 0.0)).values
        total, targets = torch.cat([value.reshape(-1) for value in said]).tolist()
        assert total == pytest.approx(inputs.sum().item(), abs=1e-5)
        assert targets == sum(range(n))
    assert [tape.replays for tape in recorder.tapes] == [2, 2]
    assert recorder.aside_of == 2 * BEFORE
