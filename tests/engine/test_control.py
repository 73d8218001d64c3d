"""Steering a run: pauses, single steps, live knobs, probes, stops; what cannot be done is refused with a
reason; a loss that is no number."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kd_engine import checkpoint, registry
from kd_engine import events as e
from kd_engine.commands import AskProbe, Command, Continue, Pause, SetKnob, StepOnce, Stop
from kd_engine.errors import StoreError
from kd_engine.session import Session
from kd_engine.store import LAST, RESUME, Store
from tests.engine import tiny

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def session(teacher: Path, tmp_path: Path) -> Session:
    return Session(tiny.recipe(teacher, stages__0__rivals=[tiny.PLAIN]), tmp_path)


def ask(session: Session, *commands: Command) -> None:
    for command in commands:
        session.send(command)


def paused_at(session: Session, *commands: Command) -> int:
    """Send these, and go on to the next pause; returns the step."""
    ask(session, *commands)
    return int(tiny.until(session, e.Paused)[-1].step)  # type: ignore[attr-defined]


# -- pause and step --


def test_a_paused_run_stands_still_until_it_is_told_to_go_on(session: Session) -> None:
    ticks: list[int] = []

    def tick() -> None:
        ticks.append(1)
        if len(ticks) == 3:
            session.send(Continue())

    session.idle = tick
    session.send(Pause())
    told = tiny.finish(session)
    kinds = [type(event) for event in told]
    assert kinds.index(e.Continued) == kinds.index(e.Paused) + 1
    assert tiny.of(e.Paused, told)[0].why == "asked"
    assert tiny.of(e.Paused, told)[0].step == 0
    assert len(ticks) >= 3


def test_single_steps_are_batches_or_the_rest_of_an_epoch(session: Session) -> None:
    assert paused_at(session, Pause()) == 0
    assert paused_at(session, StepOnce()) == 1
    assert paused_at(session, StepOnce("batch")) == 2
    assert paused_at(session, StepOnce("epoch")) == 3
    assert paused_at(session, StepOnce("epoch")) == 6
    session.send(Continue())
    assert tiny.of(e.EpochDone, tiny.finish(session)) == []


def test_a_step_of_an_epoch_ends_after_its_checkpoint(session: Session) -> None:
    paused_at(session, Pause())
    session.send(StepOnce("epoch"))
    told = tiny.until(session, e.Paused)
    kinds = [type(event) for event in told if not isinstance(event, e.StepDone)]
    assert kinds == [e.Continued, e.EpochDone, e.EpochDone, e.CheckpointSaved, e.Paused]
    assert told[-1] == e.Paused(time=told[-1].time, step=3, why="step")


def test_two_quick_steps_are_two_steps(session: Session) -> None:
    paused_at(session, Pause())
    assert paused_at(session, StepOnce(), StepOnce()) == 1
    assert paused_at(session) == 2


def test_a_single_step_of_a_run_that_is_going_pauses_it(session: Session) -> None:
    assert paused_at(session, StepOnce()) == 1


def test_going_on_forgets_a_step_that_was_not_finished(session: Session) -> None:
    paused_at(session, StepOnce())
    ask(session, StepOnce("epoch"), Pause())
    tiny.until(session, e.Continued)
    assert paused_at(session) == 2  # one step was made before the pause was seen
    session.send(Continue())
    assert not tiny.of(e.Paused, tiny.finish(session))


def test_continue_lets_a_step_that_is_going_run_on(session: Session) -> None:
    ask(session, StepOnce("epoch"), Continue())
    told = tiny.finish(session)
    assert not tiny.of(e.Paused, told)
    assert len(tiny.of(e.Continued, told)) == 1


def test_a_pause_tells_of_all_steps_before_it(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kd_engine.journal.REPORT_S", 1e9)
    paused_at(session, Pause())
    session.send(StepOnce())
    told = tiny.until(session, e.Paused)
    assert [(report.student, report.step) for report in tiny.of(e.StepDone, told)] == [
        ("student", 1),
        ("no KD", 1),
    ]


def test_a_pause_at_the_very_end_holds_the_evaluation_back(session: Session) -> None:
    tiny.until(session, e.EpochDone, epoch=2)
    session.send(Pause())
    told = tiny.until(session, e.Paused)
    assert told[-1].step == 6  # type: ignore[attr-defined]
    ask(session, SetKnob(tiny.TEMPERATURE, 3.0), AskProbe("attention", 0), Continue())
    told = tiny.finish(session)
    assert [type(event) for event in told[:4]] == [e.KnobChanged, e.ProbeReady, e.Continued, e.Preparing]


def test_what_comes_too_late_is_refused(session: Session) -> None:
    tiny.until(session, e.Evaluated, student="student", weights="last")
    ask(session, Pause(), SetKnob(tiny.TEMPERATURE, 3.0), AskProbe("attention", 0))
    refused = tiny.of(e.Refused, tiny.finish(session))
    assert [event.command for event in refused] == ["Pause", "SetKnob", "AskProbe"]
    assert {event.why for event in refused} == {"the run is at its end"}


def test_time_in_a_pause_is_not_time_of_training(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("kd_engine.journal.time.perf_counter", lambda: now[0])
    paused_at(session, StepOnce())
    now[0] += 1000
    session.send(Continue())
    tiny.finish(session)
    assert tiny.folder(session).read_json("summary.json")["seconds"] == 0  # type: ignore[index]


# -- live knobs --


def test_a_knob_holds_from_the_next_step_on(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kd_engine.journal.REPORT_S", 0.0)
    made = tiny.recipe(teacher, stages__0__schedule={"name": "constant"})
    session = Session(made, tmp_path, changes=[(2, tiny.LR, 0.01), (4, tiny.KD_WEIGHT, 0.5)])
    told = tiny.finish(session)
    reports = tiny.of(e.StepDone, told)
    assert [report.lr for report in reports] == [0.05, 0.05, 0.01, 0.01, 0.01, 0.01]
    shares = [report.weighted["kd"] / report.terms["kd"] for report in reports]
    assert shares == pytest.approx([0.9, 0.9, 0.9, 0.9, 0.5, 0.5])
    changed = tiny.of(e.KnobChanged, told)
    assert [(c.step, c.path, c.old, c.new) for c in changed] == [
        (2, tiny.LR, 0.05, 0.01),
        (4, tiny.KD_WEIGHT, 0.9, 0.5),
    ]


def test_the_recipe_in_the_store_stays_as_it_was_asked_for(session: Session, teacher: Path) -> None:
    session.send(SetKnob(tiny.TEMPERATURE, 8.0))
    told = tiny.finish(session)
    run = tiny.folder(session)
    assert run.recipe()["stages"][0]["methods"][0]["temperature"] == 4.0
    assert told[-1].summary["temperature"] == 8.0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        (tiny.TEMPERATURE, 0.5, "got 0.5, expected 1 to 20"),
        (tiny.TEMPERATURE, 21, "got 21, expected 1 to 20"),
        (tiny.TEMPERATURE, math.nan, "got nan, expected 1 to 20"),
        (tiny.TEMPERATURE, math.inf, "got inf, expected 1 to 20"),
        (tiny.TEMPERATURE, 10**400, "expected 1 to 20"),
        (tiny.TEMPERATURE, None, "got null, expected 1 to 20"),
        (tiny.TEMPERATURE, "8", "got '8', expected 1 to 20"),
        (tiny.TEMPERATURE, True, "got True, expected 1 to 20"),
        (tiny.TEMPERATURE, {"a": 1}, "expected 1 to 20"),
        ("stages.0.label_weight", -1, "got -1, expected 0 to 10"),
        ("stages.0.epochs", 5, "not a setting that can change"),
        ("stages.0.methods.0.method", "at", "not a setting that can change"),
        ("stages.0.rivals.0.label_weight", 0.5, "not a setting that can change"),
        ("stages.7.optimizer.lr", 0.5, "not a setting that can change"),
        ("data.seed", 5, "not a setting that can change"),
        ("", 5, "not a setting that can change"),
        ("..", 5, "not a setting that can change"),
        (["a"], 5, "not a setting that can change"),
    ],
)
def test_a_wrong_change_is_refused_and_changes_nothing(
    shared: Callable[[Command], e.Event], path: Any, value: Any, why: str
) -> None:
    told = shared(SetKnob(path, value))
    assert isinstance(told, e.Refused)
    assert (told.command, told.path) == ("SetKnob", path)
    assert why in told.why


def test_a_change_that_mixed_images_forbid_is_refused_and_the_run_goes_on(tmp_path: Path) -> None:
    """Several teachers in equal parts learn from mixed images; weighed by how right they are, they cannot."""
    methods = [{"method": "multi-teacher"}]
    more = [{"model": "cnn", "width": 2}]
    made = tiny.recipe(data__mix="mixup", stages__0__methods=methods, more_teachers=more)
    session = Session(made, tmp_path)
    session.send(SetKnob("stages.0.methods.0.combine", "confidence"))
    told = tiny.finish(session)
    (refused,) = tiny.of(e.Refused, told)
    assert refused.why.startswith("'multi-teacher' with combine confidence asks which class an image is of")
    assert tiny.of(e.KnobChanged, told) == []
    assert all(math.isfinite(event.loss) for event in tiny.of(e.StepDone, told))


@pytest.fixture(scope="module")
def shared(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A paused run that answers one command after the other."""
    runs = tmp_path_factory.mktemp("shared")
    session = Session(tiny.recipe(teacher, stages__0__rivals=[tiny.PLAIN]), runs)
    session.send(Pause())
    tiny.until(session, e.Paused)

    def answer(command: Command) -> e.Event:
        session.send(command)
        return next(iter(session))

    yield answer
    session.send(Stop(keep=False))
    assert isinstance(list(session)[-1], e.RunStopped)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (Pause(), "paused already"),
        (StepOnce("fortnight"), "got 'fortnight', expected batch or epoch"),
        (AskProbe("attentoin", 0), "did you mean 'attention'"),
        (AskProbe("attention", 10_000), "no sample 10000"),
        (AskProbe("attention", -1), "no sample -1"),
        (AskProbe("attention", "first"), "TypeError"),  # type: ignore[arg-type]
        (AskProbe("attention", 0, tap="stage9"), "no tap 'stage9'"),
        (AskProbe("attention", 0, tap="../../escape"), "no tap"),
        (AskProbe("attention", 0, part="holdout"), "no part 'holdout'"),
        (AskProbe("rollout", 0), "needs"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_command_that_makes_no_sense_is_refused(
    shared: Callable[[Command], e.Event], command: Command, why: str
) -> None:
    told = shared(command)
    assert isinstance(told, e.Refused)
    assert told.command == type(command).__name__
    assert why in told.why
    assert isinstance(shared(AskProbe("attention", 0, id="after")), e.ProbeReady)


def test_continue_is_refused_while_the_run_is_going(session: Session) -> None:
    session.send(Continue())
    (refused,) = tiny.of(e.Refused, tiny.finish(session))
    assert (refused.command, refused.why) == ("Continue", "the run is not paused")


def test_commands_sent_before_the_first_step_are_obeyed_in_order(session: Session) -> None:
    ask(session, SetKnob(tiny.TEMPERATURE, 2.0), SetKnob(tiny.TEMPERATURE, 3.0), Pause())
    told = tiny.until(session, e.Paused)
    assert [(change.old, change.new, change.step) for change in tiny.of(e.KnobChanged, told)] == [
        (4.0, 2.0, 0),
        (2.0, 3.0, 0),
    ]
    session.send(Stop(keep=False))
    list(session)


# -- probes --


def test_a_paused_run_still_answers_probes(shared: Callable[[Command], e.Event]) -> None:
    told = shared(AskProbe("attention", 3, id="7"))
    assert isinstance(told, e.ProbeReady)
    assert (told.id, told.probe, told.sample, told.step) == ("7", "attention", 3, 0)
    with np.load(told.path) as arrays:
        assert arrays["teacher"].shape == arrays["student"].shape == (32, 32)
        assert arrays["image"].shape == (3, 32, 32)
        assert arrays["student_logits"].shape == (10,)
    assert 0 <= told.numbers["similarity"] <= 1


def test_a_probes_own_fault_does_not_end_the_run(
    session: Session, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plugin = registry.find("probes", "attention")

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("by a plug-in")

    monkeypatch.setattr(plugin, "look", broken)
    session.send(AskProbe("attention", 0, id="x"))
    (refused,) = tiny.of(e.Refused, tiny.finish(session))
    assert (refused.path, refused.why) == ("x", "ZeroDivisionError: by a plug-in")
    assert "by a plug-in" in caplog.text


# -- stop --


def test_stop_and_keep_leaves_a_run_that_can_go_on(session: Session) -> None:
    tiny.until(session, e.CheckpointSaved, epoch=1)
    session.send(Stop())
    told = list(session)
    assert [type(event) for event in told] == [e.CheckpointSaved, e.RunStopped]
    assert told[-1] == e.RunStopped(time=told[-1].time, run=tiny.folder(session).name, step=3, kept=True)
    run = tiny.folder(session)
    assert (run.status(), run.resumable(), run.locked()) == ("stopped", True, False)
    assert list(session) == []


def test_discard_removes_the_folder(session: Session, tmp_path: Path) -> None:
    tiny.until(session, e.CheckpointSaved, epoch=1)
    session.send(Stop(keep=False))
    (told,) = session
    assert isinstance(told, e.RunStopped)
    assert not told.kept
    assert list(tmp_path.iterdir()) == []


WHENS: dict[str, Callable[[Session], object]] = {
    "before the run": lambda session: None,
    "while preparing": lambda session: tiny.until(session, e.Preparing, what="data"),
    "before the student": lambda session: tiny.until(session, e.Preparing, what="student"),
    "before the first step": lambda session: tiny.until(session, e.StageStarted),
    "in an epoch": lambda session: (session.send(StepOnce()), tiny.until(session, e.Paused)),
    "while paused": lambda session: (session.send(Pause()), tiny.until(session, e.Paused)),
    "at the end of an epoch": lambda session: tiny.until(session, e.EpochDone, epoch=1),
    "after the last step": lambda session: tiny.until(session, e.CheckpointSaved, epoch=2),
    "in the evaluation": lambda session: tiny.until(session, e.Evaluated, student="teacher"),
    "after the evaluation": lambda session: tiny.until(session, e.Evaluated, student="no KD"),
}


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("when", WHENS)
def test_stop_is_obeyed(session: Session, tmp_path: Path, when: str, keep: bool) -> None:
    WHENS[when](session)
    session.send(Stop(keep))
    told = list(session)
    assert isinstance(told[-1], e.RunStopped)
    assert told[-1].kept is keep
    assert [run.status for run in Store(tmp_path).runs()] == (["stopped"] if keep else [])
    assert keep or list(tmp_path.iterdir()) == []
    if keep:
        tiny.finish(Session.resume(told[-1].run, tmp_path))


def test_the_first_of_several_stops_counts(session: Session) -> None:
    tiny.until(session, e.StageStarted)
    ask(session, Stop(keep=True), Stop(keep=False))
    assert list(session)[-1].kept is True  # type: ignore[attr-defined]


def test_what_was_asked_before_a_stop_is_done_first(session: Session) -> None:
    tiny.until(session, e.StageStarted)
    ask(session, SetKnob(tiny.TEMPERATURE, 2.0), Stop(), SetKnob(tiny.TEMPERATURE, 3.0))
    told = list(session)
    assert [change.new for change in tiny.of(e.KnobChanged, told)] == [2.0]


# -- a loss that is no number --


@pytest.fixture
def explosive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raw KD loss of a student whose weights were thrown far: no float can hold it."""
    from kd_engine.methods import kd

    original = kd.soft_targets

    def thrown(student: Any, teacher: Any, temperature: float) -> Any:
        loss = original(student, teacher, temperature)
        return loss * math.nan if temperature == 19.0 else loss

    monkeypatch.setattr(kd, "soft_targets", thrown)


def poisoned(teacher: Path, runs: Path, **changes: Any) -> Session:
    """A run whose KD loss is NaN while the temperature is 19, which it is from step 4 on."""
    made = tiny.recipe(teacher, stages__0__epochs=3, **changes)
    return Session(made, runs, changes=[(4, tiny.TEMPERATURE, 19.0)])


def test_an_absurd_learning_rate_pauses_the_run_and_says_why(teacher: Path, tmp_path: Path) -> None:
    made = tiny.recipe(
        teacher,
        stages__0__epochs=40,
        stages__0__optimizer={"name": "sgd", "lr": 10.0, "weight_decay": 1.0},
        stages__0__schedule={"name": "constant"},
    )
    session = Session(made, tmp_path)
    told = tiny.until(session, e.Paused)
    notice = tiny.of(e.Notice, told)[-1]
    assert (notice.level, notice.code) == ("error", "nan")
    assert notice.values["lr"] == 10.0
    assert 0 < notice.values["step"] <= told[-1].step  # type: ignore[attr-defined]
    assert f"at step {notice.values['step']}" in notice.message
    assert "learning rate 10 is likely too high" in notice.message
    assert told[-1].why == "nan"  # type: ignore[attr-defined]
    session.send(Stop(keep=False))
    list(session)


@pytest.mark.usefixtures("explosive")
def test_a_nan_leaves_the_checkpoint_and_the_weights_as_they_were(teacher: Path, tmp_path: Path) -> None:
    session = poisoned(teacher, tmp_path)
    tiny.until(session, e.CheckpointSaved, epoch=1)
    kept = {name: tiny.folder(session).path(name).read_bytes() for name in (RESUME, LAST)}
    told = tiny.until(session, e.Paused)
    (notice,) = tiny.of(e.Notice, told)
    assert notice.values.pop("lr") > 0
    assert notice.values == {"step": 5, "student": "student", "terms": ["kd"]}
    assert len(tiny.of(e.Paused, told)) == 1
    assert not tiny.of(e.CheckpointSaved, told)
    assert {name: tiny.folder(session).path(name).read_bytes() for name in kept} == kept
    session.send(Stop())
    told = list(session)
    assert [type(event) for event in told] == [e.RunStopped]
    assert {name: tiny.folder(session).path(name).read_bytes() for name in kept} == kept


@pytest.mark.usefixtures("explosive")
def test_after_a_nan_the_run_goes_back_and_trains_on_with_what_was_changed(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kd_engine.journal.REPORT_S", 0.0)  # so that it is found at once
    session = poisoned(teacher, tmp_path / "sick")
    tiny.until(session, e.Paused)
    ask(session, SetKnob(tiny.TEMPERATURE, 2.0), SetKnob(tiny.LR, 0.01), Continue())
    told = tiny.until(session, e.Continued)
    changed, resumed, again = told[:2], told[2], told[3:5]
    assert [type(event) for event in told[5:]] == [e.CheckpointSaved, e.Continued]
    assert isinstance(resumed, e.RunResumed)
    assert (resumed.step, resumed.epoch) == (3, 1)
    assert [change.step for change in tiny.of(e.KnobChanged, changed)] == [5, 5]
    assert {(c.step, c.path, c.new) for c in tiny.of(e.KnobChanged, again)} == {
        (3, tiny.TEMPERATURE, 2.0),
        (3, tiny.LR, 0.01),
    }
    tiny.finish(session)
    well = tiny.run(
        tiny.recipe(teacher, stages__0__epochs=3),
        tmp_path,
        changes=[(3, tiny.TEMPERATURE, 2.0), (3, tiny.LR, 0.01)],
    )
    tiny.assert_same_run(tiny.folder(session), well)
    held = list(tiny.folder(session).events())
    assert [epoch.epoch for epoch in tiny.of(e.EpochDone, held)] == [1, 2, 3]
    assert all(math.isfinite(report.loss) for report in tiny.of(e.StepDone, held))
    assert sorted(tiny.changes(tiny.folder(session))) == sorted(tiny.changes(well))


@pytest.mark.usefixtures("explosive")
@pytest.mark.parametrize("go_on", [Continue(), StepOnce()], ids=str)
def test_going_on_without_a_change_meets_the_same_end_again(
    teacher: Path, tmp_path: Path, go_on: Command
) -> None:
    session = poisoned(teacher, tmp_path)
    session.send(SetKnob(tiny.TEMPERATURE, 19.0))  # from the first step on
    assert tiny.until(session, e.Paused)[-1].why == "nan"  # type: ignore[attr-defined]
    session.send(go_on)
    told = tiny.until(session, e.Paused)
    assert told[-1].why == "nan"  # type: ignore[attr-defined]
    assert len(tiny.of(e.RunResumed, told)) == 1
    session.send(Stop())
    list(session)


@pytest.mark.usefixtures("explosive")
def test_a_run_stopped_at_a_nan_can_be_resumed_and_healed(teacher: Path, tmp_path: Path) -> None:
    session = poisoned(teacher, tmp_path)
    tiny.until(session, e.Paused)
    session.send(Stop())
    run = list(session)[-1].run  # type: ignore[attr-defined]
    again = Session.resume(run, tmp_path)
    told = tiny.until(again, e.Paused)  # the change that made it sick is made again
    assert told[-1].why == "nan"  # type: ignore[attr-defined]
    ask(again, SetKnob(tiny.TEMPERATURE, 4.0), Continue())
    tiny.finish(again)
    assert tiny.folder(again).status() == "done"


@pytest.mark.usefixtures("explosive")
@pytest.mark.parametrize("step", [3, 5, 6, 9])
def test_a_nan_is_found_wherever_it_comes(teacher: Path, tmp_path: Path, step: int) -> None:
    made = tiny.recipe(teacher, stages__0__epochs=3)
    session = Session(made, tmp_path, changes=[(step - 1, tiny.TEMPERATURE, 19.0)])
    told = tiny.until(session, e.Paused)
    assert tiny.of(e.Notice, told)[-1].values["step"] == step
    ask(session, SetKnob(tiny.TEMPERATURE, 4.0), Continue())
    assert len(tiny.of(e.Paused, tiny.finish(session))) == 0


@pytest.mark.usefixtures("explosive")
def test_a_checkpoint_that_finds_a_nan_is_not_made(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kd_engine.journal.REPORT_S", 1e9)
    monkeypatch.setattr("kd_engine.session.CHECKPOINT_S", -1.0)
    session = poisoned(teacher, tmp_path)
    told = tiny.until(session, e.Paused)
    assert [saved.step for saved in tiny.of(e.CheckpointSaved, told)] == [0, 1, 2, 3, 4]
    assert checkpoint.load(tiny.folder(session)).progress.step == 4
    session.send(Stop(keep=False))
    list(session)


@pytest.mark.usefixtures("explosive")
def test_a_pause_that_finds_a_nan_is_told_once(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kd_engine.journal.REPORT_S", 1e9)
    session = Session(tiny.recipe(teacher), tmp_path, changes=[(0, tiny.TEMPERATURE, 19.0)])
    session.send(StepOnce())
    told = tiny.until(session, e.Paused)
    assert [event.why for event in tiny.of(e.Paused, told)] == ["nan"]
    session.send(AskProbe("attention", 0))
    assert isinstance(next(iter(session)), e.ProbeReady)
    session.send(Stop())
    assert not tiny.of(e.Paused, list(session))


@pytest.mark.usefixtures("explosive")
def test_a_rivals_nan_names_the_rival(teacher: Path, tmp_path: Path) -> None:
    hot = {"name": "hot", "label_weight": 0.1, "methods": [{"method": "kd", "temperature": 19.0}]}
    session = Session(tiny.recipe(teacher, stages__0__rivals=[hot]), tmp_path)
    told = tiny.until(session, e.Paused)
    assert tiny.of(e.Notice, told)[-1].values["student"] == "hot"
    session.send(Stop(keep=False))
    list(session)


def test_going_back_without_a_checkpoint_is_told(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, explosive: None
) -> None:
    session = poisoned(teacher, tmp_path)
    tiny.until(session, e.Paused)

    def gone(*_: Any) -> Any:
        raise StoreError("the checkpoint is gone")

    monkeypatch.setattr(checkpoint, "load", gone)
    session.send(Continue())
    told = list(session)[-1]
    assert isinstance(told, e.RunFailed)
    assert (told.error, told.message) == ("store", "the checkpoint is gone")
