"""The number of CPU threads: measured where it pays, kept, and the same again on resume and repeat."""

from __future__ import annotations

import copy
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from kd_engine import events as e
from kd_engine import paths, thread_count
from kd_engine.backend import Backend, set_threads, threads_kept
from kd_engine.classroom import Classroom
from kd_engine.commands import Pause, Stop
from kd_engine.models import count_parameters
from kd_engine.pilot import Trial, make_pilot
from kd_engine.recipe import Recipe
from kd_engine.session import Session
from kd_engine.store import ENVIRONMENT, RESUME, RunFolder
from kd_engine.teacher import Model
from kd_engine.thread_count import Choice, Step, candidates, choose, fastest, measure, training_step
from tests.engine import tiny

ONE_IS_FASTER = {1: 19.0, 2: 31.0}
Clock = Callable[[Mapping[int, float]], list[int]]


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two threads are torch's own choice, nobody said how many, and six steps are a long run."""
    monkeypatch.setattr(thread_count, "FILE", tmp_path / "kept" / "threads.json")
    for name in thread_count.CHOSEN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(thread_count, "LONG", 6)
    monkeypatch.setattr(thread_count, "_cores", lambda: 2)
    with threads_kept():
        set_threads(2)
        yield


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Lets a step take so many milliseconds by number of threads; returns the numbers that were tried."""

    def let(ms: Mapping[int, float]) -> list[int]:
        tried: list[int] = []

        def seconds(step: Step) -> float:
            tried.append(torch.get_num_threads())
            return ms[tried[-1]] / 1000

        monkeypatch.setattr(thread_count, "seconds", seconds)
        monkeypatch.setattr(thread_count, "calm", lambda step: True)
        return tried

    return let


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    def seconds(step: Step) -> float:
        raise AssertionError("nothing was to be measured")

    monkeypatch.setattr(thread_count, "seconds", seconds)


@pytest.fixture
def room(tmp_path: Path) -> Classroom:
    return Classroom(tiny.recipe(teacher__weights=None, hardware__threads=None), tmp_path)


@pytest.fixture
def student(room: Classroom) -> Model:
    return room.student(0)


def file() -> Path:
    """Where choices are kept."""
    return paths.cache() / thread_count.FILE


def kept() -> Any:
    return json.loads(file().read_text())


# -- the choice --


@pytest.mark.parametrize(
    ("most", "expected"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8]), (9, [1, 2, 4, 8, 9])]
)
def test_powers_of_two_and_all_threads_are_tried(most: int, expected: list[int]) -> None:
    assert candidates(most) == expected


@pytest.mark.parametrize(
    ("ms", "expected"),
    [
        ({1: 31, 2: 19}, 2),
        ({1: 19, 2: 31}, 1),
        ({1: 96, 2: 100}, 2),  # not clearly
        ({1: 94, 2: 100}, 1),
        ({1: 90, 2: 60, 4: 62, 6: 64}, 2),
        ({1: 90, 2: 62, 4: 60, 6: 61}, 6),
        ({2: 800}, 2),
    ],
)
def test_torchs_own_number_stays_unless_another_is_clearly_faster(
    ms: dict[int, float], expected: int
) -> None:
    assert fastest(ms) == expected


@pytest.mark.parametrize(
    ("threads", "ms", "students", "total"),
    [
        (1, {1: 19, 2: 31}, 1, 1),
        (1, {1: 19, 2: 31}, 2, 2),
        (1, {1: 19, 2: 31}, 5, 2),
        (4, {1: 9, 2: 6, 4: 4, 16: 7}, 2, 8),
        (16, {8: 4, 16: 3}, 2, 16),
        (2, {}, 2, 2),
    ],
)
def test_students_at_a_time_take_as_many_each_if_there_are_so_many(
    threads: int, ms: dict[int, float], students: int, total: int
) -> None:
    choice = Choice(threads, ms, students=students)
    assert (choice.total, choice.values["threads"]) == (total, total)


def test_a_small_step_is_measured_in_turn_as_often_as_there_is_time(clock: Clock) -> None:
    tried = clock({1: 10, 2: 6})
    assert measure(lambda: None, [1, 2]) == {1: 10, 2: 6}
    assert tried == [2, 2, 1, 1] * 9  # 32 ms a round, and 300 in all
    assert torch.get_num_threads() == 2


def test_a_step_of_some_length_is_measured_three_times(clock: Clock) -> None:
    tried = clock({1: 100, 2: 70})
    measure(lambda: None, [1, 2])
    assert tried == [2, 2, 1, 1] * 3


def test_a_burst_of_a_neighbour_changes_no_median(monkeypatch: pytest.MonkeyPatch) -> None:
    took = iter([0.07, 0.07, 0.1, 0.13, 0.07, 0.3, 0.1, 0.1, 0.07, 0.07, 0.1, 0.1])
    monkeypatch.setattr(thread_count, "seconds", lambda step: next(took))
    assert measure(lambda: None, [1, 2]) == pytest.approx({1: 100, 2: 70})


def test_very_slow_steps_are_measured_once_and_with_fewer_numbers(clock: Clock) -> None:
    tried = clock({1: 9000, 2: 2500, 4: 2000, 8: 1600})
    assert measure(lambda: None, [1, 2, 4, 8]) == {4: 2000, 8: 1600}
    assert tried == [8, 8, 4, 4]
    tried = clock({1: 500, 2: 800})
    assert measure(lambda: None, [1, 2]) == {1: 500, 2: 800}
    assert tried == [2, 2, 1, 1]
    clock({2: 9000})
    assert measure(lambda: None, [1, 2]) == {2: 9000}


def test_where_fewer_threads_are_hopeless_still_fewer_are_not_tried(clock: Clock) -> None:
    tried = clock({1: 100, 2: 50, 4: 22, 8: 10})
    assert measure(lambda: None, [1, 2, 4, 8]) == {4: 22, 8: 10}
    assert tried[:6] == [8, 8, 4, 4, 8, 8]
    assert 1 not in tried
    assert 2 not in tried
    assert tried.count(4) == 2


def test_a_choice_is_told_in_words() -> None:
    assert str(Choice(2, {2: 19, 1: 31.44})) == "2 CPU threads: the fastest of 1 (31.4 ms a step), 2 (19 ms)."
    assert str(Choice(1, {1: 3, 2: 4}, kept=True)) == (
        "1 CPU thread: the fastest of 1 (3 ms a step), 2 (4 ms), as measured before on this machine."
    )
    assert "of 1 (1,090 ms a step), 2 (1,295 ms)" in str(Choice(1, {1: 1089.7, 2: 1295.1}))
    told = str(Choice(2, {1: 18.5, 2: 19}))
    assert (
        told == "2 CPU threads, torch's own choice: none is clearly faster of 1 (18.5 ms a step), 2 (19 ms)."
    )


# -- the step --


def test_the_steps_that_are_timed_leave_the_student_and_the_generators(
    room: Classroom, student: Model
) -> None:
    module = nn.Sequential(student.module, nn.Dropout())  # draws lots
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert any("running_mean" in name for name in before)
    modes = [part.training for part in module.modules()]
    state = torch.get_rng_state()
    assert choose(room, replace(student, module=module)) is not None
    assert torch.equal(torch.get_rng_state(), state)
    after = module.state_dict()
    assert [name for name in before if not torch.equal(before[name], after[name])] == []
    assert all(parameter.grad is None for parameter in module.parameters())
    assert [part.training for part in module.modules()] == modes
    assert torch.get_num_threads() == 2


def test_the_steps_that_are_timed_compute_with_numbers(
    room: Classroom, student: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[nn.Module] = []
    copied = copy.deepcopy
    monkeypatch.setattr(
        thread_count,
        "copy",
        SimpleNamespace(deepcopy=lambda module: copies.append(copied(module)) or copies[-1]),
    )
    step = training_step(student.module, room.backend, 16, room.data.size)
    step()
    (own,) = copies
    gradients = [parameter.grad for parameter in own.parameters()]
    assert gradients
    assert all(grad is not None and torch.isfinite(grad).all() for grad in gradients)
    assert any(grad.any() for grad in gradients if grad is not None)


def test_a_measurement_by_the_clock_chooses_one_of_the_numbers(
    room: Classroom, student: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread_count, "CALM", 0.0)  # tests run on busy machines
    choice = choose(room, student)
    assert choice is not None
    assert set(choice.ms) <= {1, 2}
    assert choice.threads == fastest(choice.ms)
    assert all(ms > 0 for ms in choice.ms.values())


# -- what is kept --


def test_a_later_run_takes_what_was_measured_first(room: Classroom, student: Model, clock: Clock) -> None:
    clock(ONE_IS_FASTER)
    assert choose(room, student) == Choice(1, ONE_IS_FASTER)
    tried = clock({1: 31, 2: 19})
    assert choose(room, student) == Choice(1, ONE_IS_FASTER, kept=True)
    assert tried == []
    ((key, entry),) = kept().items()
    assert (entry["threads"], entry["of"]["batch_size"]) == (1, 16)
    other = Classroom(
        tiny.recipe(teacher__weights=None, hardware__threads=None, stages__0__batch_size=8), room.runs
    )
    assert choose(other, student) == Choice(2, {1: 31, 2: 19})
    assert set(kept()) > {key}


def test_on_a_busy_machine_nothing_is_measured_or_kept(
    room: Classroom, student: Model, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = clock(ONE_IS_FASTER)
    with monkeypatch.context() as busy:
        busy.setattr(thread_count, "calm", lambda step: False)
        choice = choose(room, student)
    assert choice == Choice(2, {})
    assert str(choice) == "2 CPU threads, torch's own choice: the machine is too busy to measure another."
    assert choice.values == {"threads": 2, "ms": {}, "kept": False}
    assert tried == []
    assert not file().exists()
    assert choose(room, student) == Choice(1, ONE_IS_FASTER)


@pytest.mark.parametrize(("worked", "calm"), [(0.058, True), (0.03, False)])
def test_a_machine_is_busy_where_a_step_waits_for_a_core(
    worked: float, calm: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 60 ms."""
    with monkeypatch.context() as patch:
        patch.setattr(time, "perf_counter", iter([1.0, 1.03, 1.06]).__next__)
        patch.setattr(time, "process_time", iter([5.0, 5.0 + worked]).__next__)
        threads = []
        assert thread_count.calm(lambda: threads.append(torch.get_num_threads())) is calm
    assert threads == [1, 1, 1]
    assert torch.get_num_threads() == 2


def test_who_comes_while_another_measures_takes_its_choice() -> None:
    second_measures, told = threading.Event(), []

    def second() -> Choice:
        second_measures.set()
        return Choice(2, {1: 31, 2: 19})

    other = threading.Thread(target=lambda: told.append(thread_count._memoised("key", second, {}, 2)))

    def first() -> Choice:
        other.start()
        assert not second_measures.wait(0.2)
        return Choice(1, ONE_IS_FASTER)

    assert thread_count._memoised("key", first, {}, 2) == Choice(1, ONE_IS_FASTER)
    other.join()
    assert told == [Choice(1, ONE_IS_FASTER, kept=True)]


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[]", b"3"])
def test_a_file_that_cannot_be_read_is_told_and_written_anew(
    content: bytes, room: Classroom, student: Model, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    clock(ONE_IS_FASTER)
    file().parent.mkdir()
    file().write_bytes(content)
    with caplog.at_level(logging.WARNING, "kd_engine"):
        assert choose(room, student) == Choice(1, ONE_IS_FASTER)
    assert [record.message.count("cannot be read") for record in caplog.records] == [1]
    assert len(kept()) == 1


@pytest.mark.parametrize(
    "entry",
    [
        3,
        {},
        {"threads": 1},
        {"threads": 4, "ms": {"4": 1}},
        {"threads": 0, "ms": {"0": 1}},
        {"threads": 1, "ms": [1]},
        {"threads": 1, "ms": {"one": 1}},
        {"threads": "x", "ms": {}},
    ],
)
def test_what_cannot_be_meant_is_measured_anew(entry: Any) -> None:
    file().parent.mkdir()
    file().write_text(json.dumps({"key": entry, "other": {"threads": 2}}))
    choice = Choice(1, ONE_IS_FASTER)
    assert thread_count._memoised("key", lambda: choice, {}, 2) == choice
    assert kept()["other"] == {"threads": 2}
    assert kept()["key"]["threads"] == 1


def test_where_nothing_can_be_written_the_choice_holds_for_this_run(
    room: Classroom,
    student: Model,
    clock: Clock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock(ONE_IS_FASTER)
    (tmp_path / "file").touch()
    monkeypatch.setattr(thread_count, "FILE", tmp_path / "file" / "threads.json")
    with caplog.at_level(logging.WARNING, "kd_engine"):
        for _ in range(2):
            assert choose(room, student) == Choice(1, ONE_IS_FASTER)
    assert [record.message.count("is not kept") for record in caplog.records] == [1, 1]


def test_a_full_disk_is_told_and_the_choice_holds_for_this_run(
    room: Classroom,
    student: Model,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(file: Path) -> None:
        raise OSError(28, "No space left on device")

    clock(ONE_IS_FASTER)
    monkeypatch.setattr("kd_engine.disk.sync", full)
    with caplog.at_level(logging.WARNING, "kd_engine"):
        assert choose(room, student) == Choice(1, ONE_IS_FASTER)
    assert "No space left" in caplog.text
    assert not file().exists()


# -- when --


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("name", thread_count.CHOSEN)
def test_who_set_the_environment_is_obeyed(
    name: str, room: Classroom, student: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "2")
    assert choose(room, student) is None


@pytest.mark.usefixtures("unmeasured")
def test_nothing_is_measured_for_a_short_run_or_without_a_choice(
    room: Classroom, student: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = Classroom(tiny.recipe(teacher__weights=None, hardware__threads=2), room.runs)
    assert choose(given, student) is None
    set_threads(1)
    assert choose(room, student) is None
    set_threads(2)
    monkeypatch.setattr(thread_count, "LONG", 7)  # the tiny recipe makes six steps
    assert choose(room, student) is None


def test_the_stage_with_the_most_steps_is_measured(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock(ONE_IS_FASTER)
    measured: list[tuple[int, int]] = []

    def step(module: nn.Module, backend: Backend, batch_size: int, size: int) -> Step:
        measured.append((count_parameters(module), batch_size))
        return lambda: None

    monkeypatch.setattr(thread_count, "training_step", step)
    document = tiny.two_stages(hardware__threads=None).document()
    document["stages"][0] |= {"student": {"model": "cnn", "width": 3}, "batch_size": 12}
    room = Classroom(Recipe.from_document(document), tmp_path)
    assert choose(room, room.student(0)) is not None
    assert measured == [(count_parameters(room.student(1).module), 16)]
    (entry,) = kept().values()
    assert (entry["of"]["width"], entry["of"]["batch_size"]) == (2, 16)


# -- in a run --


def automatic(teacher: Path) -> Any:
    return tiny.recipe(teacher, hardware__threads=None)


def threads_of(run: RunFolder) -> Any:
    environment = run.read_json(ENVIRONMENT)
    assert environment is not None
    return environment["threads"]


def of_threads(told: Any) -> list[e.Notice]:
    return [notice for notice in tiny.of(e.Notice, told) if notice.code == "threads"]


def stopped_early(made: Session) -> RunFolder:
    """Stopped after its first epoch, and kept."""
    for event in made:
        if isinstance(event, e.EpochDone):
            made.send(Stop())
    return tiny.folder(made)


def test_a_run_tells_its_choice_and_has_the_bits_of_one_that_was_given_that_number(
    teacher: Path, tmp_path: Path, undisturbed: RunFolder, clock: Clock
) -> None:
    clock(ONE_IS_FASTER)
    session = Session(automatic(teacher), tmp_path)
    told = tiny.finish(session)
    (notice,) = of_threads(told)
    assert notice.level == "info"
    assert notice.message == "1 CPU thread: the fastest of 1 (19 ms a step), 2 (31 ms)."
    assert notice.values == {"threads": 1, "ms": {"1": 19.0, "2": 31.0}, "kept": False}
    ready = next(event for event in told if isinstance(event, e.TeacherReady))
    assert told.index(notice) < told.index(ready)  # the teacher has said nothing before
    run = tiny.folder(session)
    assert threads_of(run) == 1
    assert of_threads(run.events()) == [notice]
    assert tiny.differing(run, undisturbed) == []
    assert torch.get_num_threads() == 2
    again = tiny.finish(Session(automatic(teacher), tmp_path))
    assert [notice.values["kept"] for notice in of_threads(again)] == [True]


def test_a_run_with_a_rival_takes_the_number_for_each(teacher: Path, tmp_path: Path, clock: Clock) -> None:
    clock(ONE_IS_FASTER)
    made = tiny.recipe(teacher, hardware__threads=None, stages__0__rivals=[tiny.PLAIN])
    session = Session(made, tmp_path)
    (notice,) = of_threads(tiny.finish(session))
    told = "1 CPU thread: the fastest of 1 (19 ms a step), 2 (31 ms). Of 2 students at a time: 2 in all."
    assert notice.message == told
    assert threads_of(tiny.folder(session)) == 2


def test_the_steps_of_a_run_take_the_number_that_was_chosen(
    teacher: Path, tmp_path: Path, clock: Clock
) -> None:
    clock(ONE_IS_FASTER)
    seen: list[int] = []
    session = Session(automatic(teacher), tmp_path)

    def look() -> None:
        seen.append(torch.get_num_threads())
        session.send(Stop())

    session.idle = look
    session.send(Pause())
    for _ in session:
        assert torch.get_num_threads() == 2  # of whoever iterates
    assert seen == [1]
    saved = torch.load(tiny.folder(session).path(RESUME), weights_only=True)
    assert saved["threads"] == 1


def test_a_resume_goes_on_with_the_number_of_its_run(
    teacher: Path, tmp_path: Path, undisturbed: RunFolder, clock: Clock
) -> None:
    clock(ONE_IS_FASTER)
    run = stopped_early(Session(automatic(teacher), tmp_path))
    tried = clock({1: 31, 2: 19})
    file().unlink()
    told = tiny.finish(Session.resume(run.folder))
    assert tried == []
    assert of_threads(told) == []
    (resumed,) = tiny.of(e.RunResumed, told)
    assert resumed.environment["threads"] == threads_of(run) == 1
    assert tiny.differing(run, undisturbed) == []


@pytest.mark.usefixtures("unmeasured")
def test_a_resume_says_when_the_machine_has_fewer_cores_than_its_run_had(
    teacher: Path, tmp_path: Path
) -> None:
    run = stopped_early(Session(tiny.recipe(teacher), tmp_path))
    content = torch.load(run.path(RESUME), weights_only=True)
    content["recipe"]["hardware"]["threads"] = None
    torch.save({**content, "threads": 64}, run.path(RESUME))
    set_threads(1)
    (notice,) = of_threads(tiny.finish(Session.resume(run.folder)))
    assert notice.level == "warning"
    assert "64 CPU threads, going on with 1" in notice.message


def test_a_repeated_run_takes_the_number_of_the_first(
    teacher: Path, tmp_path: Path, undisturbed: RunFolder, clock: Clock
) -> None:
    clock(ONE_IS_FASTER)
    session = Session(automatic(teacher), tmp_path)
    tiny.finish(session)
    tried = clock({1: 31, 2: 19})
    file().unlink()
    again = Session.repeat(tiny.folder(session).folder, tmp_path)
    told = tiny.finish(again)
    assert tried == []
    assert of_threads(told) == []
    (started,) = tiny.of(e.RunStarted, told)
    assert started.environment["threads"] == threads_of(tiny.folder(again)) == 1
    assert tiny.differing(tiny.folder(again), undisturbed) == []


@pytest.mark.parametrize("environment", ["{", "{}", '{"threads": "two"}'])
def test_a_repeated_run_that_does_not_say_its_number_takes_what_is_fastest(
    environment: str, undisturbed: RunFolder, teacher: Path, tmp_path: Path, clock: Clock
) -> None:
    clock(ONE_IS_FASTER)
    run = stopped_early(Session(automatic(teacher), tmp_path))
    run.path(ENVIRONMENT).write_text(environment)
    again = Session.repeat(run.folder, tmp_path)
    (notice,) = of_threads(tiny.finish(again))
    assert notice.values["kept"]


def test_a_pilot_says_the_number_that_its_run_took(teacher: Path, tmp_path: Path, clock: Clock) -> None:
    clock(ONE_IS_FASTER)
    trial = Trial(make_pilot(automatic(teacher), 2, 60), tmp_path)
    for _ in trial:
        pass
    assert trial.outcome is not None
    assert trial.outcome.environment["threads"] == 2  # one each: it trains many students
