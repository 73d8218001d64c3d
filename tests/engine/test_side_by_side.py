"""Students that learn at the same time: their numbers are those that each has on so many threads alone."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kd_engine import events as e
from kd_engine.backend import Backend, set_threads, threads_kept
from kd_engine.commands import AskProbe, Continue, SetKnob, StepOnce, Stop
from kd_engine.errors import KdError
from kd_engine.methods.kd import Kd
from kd_engine.models import create
from kd_engine.recipe import Recipe
from kd_engine.recipe_knobs import HardwareKnobs
from kd_engine.session import Session
from kd_engine.side_by_side import SideBySide, companions, draws
from kd_engine.stages import Learner
from kd_engine.store import RESUME, RunFolder
from tests.engine import tiny

HOT = {"name": "T = 8", "label_weight": 0.1, "methods": [{"method": "kd", "temperature": 8.0}]}
RIVALS = [tiny.PLAIN, HOT]
CPU = Backend(HardwareKnobs(device="cpu"))


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    with threads_kept():
        set_threads(4)
        yield


@pytest.fixture
def beside() -> Iterator[Callable[[str, int], SideBySide]]:
    """Makes one; all are closed afterwards. Names are letters."""
    made: list[SideBySide] = []

    def make(names: str, threads: int) -> SideBySide:
        made.append(SideBySide(list(names), threads))
        return made[-1]

    yield make
    for one in made:
        one.close()


Make = Callable[[str, int], SideBySide]


def doing(names: str, task: Callable[[], Any]) -> dict[str, Callable[[], Any]]:
    return dict.fromkeys(names, task)


# -- those who work --


def test_all_work_at_the_same_time(beside: Make) -> None:
    meeting = threading.Barrier(3, timeout=10)  # breaks unless all three are there
    assert sorted(beside("abc", 4).do(doing("abc", meeting.wait)).values()) == [0, 1, 2]


@pytest.mark.parametrize(
    ("names", "threads", "each"),
    [("ab", 4, [2, 2]), ("abc", 4, [1, 1, 1]), ("abcd", 2, [1, 1, 1, 1]), ("abc", 2, [1, 1, 2])],
)
def test_threads_are_shared_evenly_and_one_who_is_left_over_has_all(
    beside: Make, names: str, threads: int, each: list[int]
) -> None:
    set_threads(threads)
    made = beside(names, threads)
    assert list(made.do(doing(names, torch.get_num_threads)).values()) == each
    assert torch.get_num_threads() == threads


def test_threads_of_others_that_begin_later_have_what_they_had(beside: Make) -> None:
    beside("ab", 4)
    seen: list[int] = []
    other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert seen == [4]


@pytest.mark.parametrize(("names", "threads"), [("", 4), ("a", 4), ("ab", 1)])
def test_one_name_or_one_thread_is_worked_off_here(beside: Make, names: str, threads: int) -> None:
    made = beside(names, threads)
    assert made.names == ()
    assert set(made.do(doing("ab", threading.current_thread)).values()) == {threading.current_thread()}


def test_who_is_not_named_goes_first_and_answers_come_in_the_order_of_the_tasks(beside: Make) -> None:
    order: list[str] = []
    tasks = {name: lambda name=name: order.append(name) or name for name in "axb"}
    assert list(beside("ab", 2).do(tasks).items()) == [("a", "a"), ("x", "x"), ("b", "b")]
    assert order[0] == "x"


def test_the_first_fault_is_raised_when_all_have_ended(beside: Make) -> None:
    meeting, ended = threading.Barrier(2, timeout=10), threading.Event()

    def fail() -> None:
        meeting.wait()
        raise ValueError("a")

    def last() -> None:
        meeting.wait()
        ended.set()

    made = beside("ab", 2)
    with pytest.raises(ValueError, match="a"):
        made.do({"a": fail, "b": last})
    assert ended.is_set()
    assert made.do(doing("ab", lambda: 1)) == {"a": 1, "b": 1}  # and can be used again


def test_random_numbers_drawn_at_the_same_time_are_refused(beside: Make) -> None:
    made = beside("ab", 2)
    with pytest.raises(KdError, match="random numbers") as refused:
        made.do({"a": lambda: torch.rand(1), "b": lambda: None})
    assert "hardware.side_by_side" in str(refused.value.hint)


# -- who can --


def learner(name: str, *methods: str) -> Learner:
    sections = Recipe.from_document(tiny.document(stages=[stage(*methods)])).stages[0].methods
    return Learner(name, "", 1.0, sections, labels_only=not methods)


def stage(*methods: str) -> dict[str, Any]:
    return {**tiny.PLAN, "stage": "distill", "epochs": 1, "methods": [{"method": name} for name in methods]}


@pytest.mark.parametrize(
    ("methods", "expected"),
    [
        ([["kd"], []], ["0", "1"]),
        ([["kd"]], []),
        ([["crd"], []], []),
        ([["kd", "crd"], ["kd"], ["at"]], ["1", "2"]),
        ([["gradient-at"], ["kd"], []], ["1", "2"]),
    ],
)
def test_methods_that_draw_or_choose_kernels_learn_alone(
    methods: list[list[str]], expected: list[str]
) -> None:
    learners = [learner(str(number), *names) for number, names in enumerate(methods)]
    assert companions(learners, create("cnn", 10, 32, width=2), 32, CPU) == expected


def test_students_with_dropout_learn_one_by_one() -> None:
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Dropout(0.1))
    assert companions([learner("a", "kd"), learner("b")], module, 8, CPU) == []


def test_nobody_learns_beside_others_where_that_is_not_wanted() -> None:
    apart = Backend(HardwareKnobs(device="cpu", side_by_side=False))
    assert companions([learner("a"), learner("b")], create("cnn", 10, 32, width=2), 32, apart) == []


@pytest.mark.parametrize(("probability", "expected"), [(0.5, True), (0.0, False)])
def test_whether_a_model_draws_is_seen_and_leaves_no_trace(probability: float, expected: bool) -> None:
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Dropout(probability)).eval()
    before, state = torch.get_rng_state(), copy.deepcopy(module.state_dict())
    assert draws(module, 8) is expected
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(state[name], tensor) for name, tensor in module.state_dict().items())
    assert not module.training


# -- in a run --


def made(teacher: Path, threads: int, **changes: Any) -> Recipe:
    changes = {"stages__0__rivals": copy.deepcopy(RIVALS), **changes}
    return tiny.recipe(teacher, hardware__threads=threads, **changes)


def told(run: RunFolder) -> list[tuple[Any, ...]]:
    """What its students lost and got right, epoch by epoch."""
    return [(d.student, d.epoch, d.train, d.validation) for d in tiny.of(e.EpochDone, run.events())]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tasks were worked off at the same time, call by call."""
    seen: list[int] = []
    do = SideBySide._at_once

    def watched(self: SideBySide, tasks: Any) -> Any:
        seen.extend([len(tasks)] if tasks else [])
        return do(self, tasks)

    monkeypatch.setattr(SideBySide, "_at_once", watched)
    return seen


def test_a_run_on_three_threads_has_the_bits_of_one_on_one_thread(
    teacher: Path, tmp_path: Path, at_once: list[int]
) -> None:
    alone = tiny.run(made(teacher, 1), tmp_path)
    assert at_once == []
    beside = tiny.run(made(teacher, 3), tmp_path)
    assert set(at_once) == {3}
    assert tiny.differing(alone, beside) == []
    assert told(alone) == told(beside)
    assert {student for student, *_ in told(beside)} == {"student", "no KD", "T = 8"}


def test_where_it_is_not_wanted_students_learn_one_after_the_other(
    teacher: Path, tmp_path: Path, at_once: list[int]
) -> None:
    tiny.run(made(teacher, 3, hardware__side_by_side=False), tmp_path)
    assert at_once == []


def test_a_run_that_was_stopped_probed_and_resumed_has_the_bits_of_one_left_alone(
    teacher: Path, tmp_path: Path
) -> None:
    undisturbed = tiny.run(made(teacher, 2), tmp_path)
    session = Session(made(teacher, 2), tmp_path)
    session.send(AskProbe("attention", sample=0))
    tiny.until(session, e.StepDone)
    session.send(Stop())
    assert isinstance(list(session)[-1], e.RunStopped)
    run = tiny.folder(session)
    assert run.path(RESUME).exists()
    tiny.finish(Session.resume(run.folder))
    assert tiny.differing(undisturbed, run) == []
    assert [d for d in told(undisturbed) if d[1] == 2] == [d for d in told(run) if d[1] == 2]


def steered_through_a_nan(made: Recipe, runs: Path) -> RunFolder:
    """Changed live, paused, sick from its second step on, healed from its last checkpoint, and run to its
    end."""
    session = Session(made, runs)
    session.send(StepOnce("batch"))
    tiny.until(session, e.Paused)
    session.send(SetKnob(tiny.LR, 10.0))
    session.send(SetKnob(tiny.TEMPERATURE, 19.0))
    session.send(Continue())
    assert tiny.until(session, e.Paused)[-1].why == "nan"
    session.send(SetKnob(tiny.TEMPERATURE, 2.0))
    session.send(SetKnob(tiny.LR, 0.01))
    session.send(Continue())
    tiny.finish(session)
    return tiny.folder(session)


def test_live_changes_and_the_way_back_from_a_nan_have_the_bits_of_one_thread(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: list[int]
) -> None:
    terms = Kd.terms

    def explosive(self: Kd, *signals: Any) -> Any:
        sick = math.nan if self.knobs.temperature == 19.0 else 1.0
        return {name: term * sick for name, term in terms(self, *signals).items()}

    monkeypatch.setattr(Kd, "terms", explosive)
    alone = steered_through_a_nan(made(teacher, 1), tmp_path)
    assert at_once == []
    beside = steered_through_a_nan(made(teacher, 3), tmp_path)
    assert set(at_once) == {3}
    assert tiny.differing(alone, beside) == []
    assert told(alone) == told(beside)
    assert tiny.changes(alone) == tiny.changes(beside)


def test_peers_hear_each_other_and_learn_at_the_same_time(
    teacher: Path, tmp_path: Path, at_once: list[int]
) -> None:
    mutual = {**tiny.PLAN, "stage": "mutual", "epochs": 1, "methods": [{"method": "dml"}]}
    alone = tiny.run(tiny.recipe(teacher, stages=[mutual], hardware__threads=1), tmp_path)
    beside = tiny.run(tiny.recipe(teacher, stages=[copy.deepcopy(mutual)], hardware__threads=2), tmp_path)
    assert set(at_once) == {2}
    assert tiny.differing(alone, beside) == []


def test_one_that_draws_learns_before_the_others_do(
    teacher: Path, tmp_path: Path, at_once: list[int]
) -> None:
    crd = {"name": "CRD", "label_weight": 0.1, "methods": [{"method": "crd", "negatives": 8}]}
    first = tiny.run(made(teacher, 2, stages__0__rivals=[crd, tiny.PLAIN]), tmp_path)
    assert set(at_once) == {2}  # the student and the one without a teacher
    again = tiny.run(made(teacher, 2, stages__0__rivals=[copy.deepcopy(crd), tiny.PLAIN]), tmp_path)
    assert told(first) == told(again)


def test_a_method_that_draws_without_saying_so_ends_the_run_with_the_way_out(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms = Kd.terms

    def noisy(self: Kd, student: Any, teacher: Any, target: Tensor) -> Any:
        return {name: term * torch.rand(()) for name, term in terms(self, student, teacher, target).items()}

    monkeypatch.setattr(Kd, "terms", noisy)
    failed = list(Session(made(teacher, 2), tmp_path))[-1]
    assert isinstance(failed, e.RunFailed)
    assert "side_by_side" in failed.hint
    tiny.run(made(teacher, 2, hardware__side_by_side=False), tmp_path)


def test_the_fault_of_one_ends_the_run_and_nobody_works_on(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Kd, *signals: Any) -> Any:
        raise ZeroDivisionError("broken")

    monkeypatch.setattr(Kd, "terms", broken)
    failed = list(Session(made(teacher, 2), tmp_path))[-1]
    assert isinstance(failed, e.RunFailed)
    assert "broken" in failed.message
    assert not [t for t in threading.enumerate() if t.name.startswith("kd-student")]
