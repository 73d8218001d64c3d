"""Recipes of several students: teacher assistants, born-again students, mutual learning, several teachers."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from kd_engine import catalog
from kd_engine import events as e
from kd_engine.check import check
from kd_engine.classroom import Classroom
from kd_engine.commands import Stop
from kd_engine.recipe import Recipe
from kd_engine.session import Session
from kd_engine.signals import Signals
from kd_engine.store import RESUME, assistant_file
from kd_engine.trainee import Trainee
from tests.engine import tiny

DISTILL = {**tiny.PLAN, "stage": "distill", "epochs": 1, "methods": [{"method": "kd"}]}
ASSISTANT = {**DISTILL, "student": {"model": "cnn", "width": 3}}
TAUGHT = {**DISTILL, "taught_by": "previous"}
MUTUAL = {**tiny.PLAN, "stage": "mutual", "epochs": 2, "methods": [{"method": "kd"}]}


def staged(*stages: dict[str, Any], **changes: Any) -> Recipe:
    return tiny.recipe(stages=copy.deepcopy(list(stages)), **changes)


def problems(*stages: dict[str, Any], **changes: Any) -> dict[str, str]:
    document = tiny.document(stages=copy.deepcopy(list(stages)), **changes)
    return {problem.path: problem.message for problem in check(document, catalog.load())}


def test_an_assistant_learns_from_the_teacher_and_teaches_the_student(tmp_path: Path) -> None:
    told = tiny.finish(session := Session(staged(ASSISTANT, TAUGHT), tmp_path))
    run = tiny.folder(session)
    widths = [
        len(tiny.weights(run, name)["stem.0.weight"]) for name in (assistant_file(0), "last.safetensors")
    ]
    assert widths == [3, 2]
    assert [ready.model for ready in tiny.of(e.TeacherReady, told)] == ["cnn", "cnn"]
    started = tiny.of(e.StageStarted, told)
    assert started[0].parameters > started[1].parameters
    assert run.read_json("summary.json")["teacher"]["top1_test"] is not None  # the recipe's teacher


def test_the_assistants_last_answers_are_what_the_student_hears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[tuple[torch.Tensor, torch.Tensor]] = []
    learn = Trainee.learn

    def listen(self: Trainee, step: int, lr: float, batch: Any, teacher: Any, *rest: Any) -> None:
        heard.append((batch.inputs, teacher.logits))
        learn(self, step, lr, batch, teacher, *rest)

    monkeypatch.setattr(Trainee, "learn", listen)
    recipe = staged(ASSISTANT, TAUGHT)
    run = tiny.run(recipe, tmp_path)
    room = Classroom(recipe, tmp_path)
    assistant = room.assistant(0, run.path(assistant_file(0)))
    inputs, logits = heard[-1]
    torch.testing.assert_close(assistant.module(inputs), logits)


def test_a_born_again_student_begins_anew_and_needs_no_teacher_of_the_recipe(tmp_path: Path) -> None:
    first = {**tiny.PLAN, "stage": "train", "epochs": 1}
    recipe = staged(
        first, {**TAUGHT, "start": "fresh", "optimizer": {"name": "sgd", "lr": 0.0}}, teacher=None
    )
    told = tiny.finish(session := Session(recipe, tmp_path))
    run = tiny.folder(session)
    born, parent = tiny.weights(run), tiny.weights(run, assistant_file(0))
    assert not torch.equal(born["stem.0.weight"], parent["stem.0.weight"])
    again = {**TAUGHT, "optimizer": {"name": "sgd", "lr": 0.0}}
    kept = tiny.weights(tiny.run(staged(first, again, teacher=None), tmp_path))
    assert torch.equal(kept["stem.0.weight"], parent["stem.0.weight"])  # without "fresh" it goes on
    assert all("agreement" in event.validation for event in tiny.of(e.EpochDone, told)[1:])


CHAIN = (ASSISTANT, TAUGHT, {**TAUGHT, "start": "fresh"})
PEERS = ({**MUTUAL, "peers": 2, "rivals": [tiny.PLAIN]},)


@pytest.mark.parametrize(
    ("stages", "stop_at"),
    [(CHAIN, step) for step in range(1, 3 * tiny.STEPS, 2)]
    + [(PEERS, step) for step in (1, tiny.STEPS, tiny.STEPS + 1)],
    ids=lambda value: value if isinstance(value, int) else value[0]["stage"],
)
def test_stopped_anywhere_it_goes_on_bit_for_bit(
    tmp_path: Path, stages: tuple[dict[str, Any], ...], stop_at: int
) -> None:
    recipe = staged(*stages)
    whole = tiny.run(recipe, tmp_path)
    session = Session(recipe, tmp_path)
    for event in session:
        if isinstance(event, e.StepDone | e.CheckpointSaved) and event.step >= stop_at:
            session.send(Stop(keep=True))
    run = tiny.folder(session)
    assert run.path(RESUME).exists()
    resumed = Session.resume(run.folder)
    tiny.finish(resumed)
    tiny.assert_same_run(whole, tiny.folder(resumed))


def test_a_rival_goes_on_with_its_own_weights(tmp_path: Path) -> None:
    """Else "no KD" would inherit what the student was taught in the stage before."""
    plain = {**tiny.PLAN, "stage": "train", "epochs": 2, "optimizer": {"name": "sgd", "lr": 0.1}}
    constant = {"name": "constant"}
    stage = {**DISTILL, "schedule": constant, "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0}}
    seen: dict[str, dict[str, torch.Tensor]] = {}
    for stages in (
        [{**stage, "rivals": [tiny.PLAIN]}] * 2,
        [{**plain, **{k: stage[k] for k in ("schedule", "optimizer")}}],
    ):
        session = Session(staged(*stages), tmp_path)
        for event in session:
            if isinstance(event, e.EpochDone):
                last = session._now.students[-1]
                seen[f"{len(stages)} {last.name}"] = copy.deepcopy(last.module.state_dict())
    two, one = seen["2 no KD"], seen["1 student"]
    # the order of the images differs between stages and epochs; what must agree is the number of steps made
    assert two["stem.1.num_batches_tracked"] == one["stem.1.num_batches_tracked"] == 2 * tiny.STEPS


def test_a_methods_parts_go_on_in_the_next_stage(tmp_path: Path) -> None:
    hint = [{"method": "fitnet"}]
    still = {"name": "sgd", "lr": 0.0, "weight_decay": 0.0}
    session = Session(
        staged({**DISTILL, "methods": hint}, {**DISTILL, "methods": hint, "optimizer": still}), tmp_path
    )
    states = []
    for event in session:
        if isinstance(event, e.EpochDone):
            method = session._now.students[0].lesson.methods["fitnet"]
            states.append({k: v.clone() for k, v in method.named_parameters()})
    assert all(torch.equal(a, b) for a, b in zip(*(state.values() for state in states), strict=True))


def test_peers_teach_each_other_what_they_said_at_the_same_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[tuple[str, Signals, Signals]] = []
    learn = Trainee.learn

    def listen(self: Trainee, step: int, lr: float, batch: Any, teacher: Any, clock: Any, said: Any) -> None:
        heard.append((self.name, said, teacher))
        learn(self, step, lr, batch, teacher, clock, said)

    monkeypatch.setattr(Trainee, "learn", listen)
    told = tiny.finish(Session(staged({**MUTUAL, "peers": 2}, teacher=None), tmp_path))
    assert tiny.of(e.StageStarted, told)[0].students == ["student", "peer 1", "peer 2"]
    (_, mine, others), (_, second, _), (_, third, _) = heard[:3]
    assert [
        member.logits is said.logits for member, said in zip(others.members, (second, third), strict=True)
    ] == [
        True,
        True,
    ]
    assert not torch.equal(second.logits, third.logits)  # weights of their own
    assert not torch.equal(mine.logits, second.logits)


def test_a_peer_is_heard_where_methods_listen_to_a_teacher_only(tmp_path: Path) -> None:
    method = {"method": "reviewkd"}  # it compares stages with maps before their activations
    told = tiny.finish(Session(staged({**MUTUAL, "methods": [method]}, teacher=None), tmp_path))
    assert tiny.of(e.StepDone, told)[-1].terms["reviewkd"] > 0


def test_with_one_peer_learning_is_symmetric_and_measured_against_the_teacher(tmp_path: Path) -> None:
    run = tiny.run(staged({**MUTUAL, "rivals": [tiny.PLAIN]}), tmp_path)
    summary = run.read_json("summary.json")
    assert summary["retention"] is not None
    rival = summary["students"]["no KD"]["top1_test_last"]
    assert summary["gain"] == pytest.approx(summary["students"]["student"]["top1_test_last"] - rival)


def test_a_gain_is_never_over_a_peer(tmp_path: Path) -> None:
    assert tiny.run(staged(MUTUAL), tmp_path).read_json("summary.json")["gain"] is None


def test_several_teachers_answer_the_methods_that_ask_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Signals] = []
    learn = Trainee.learn

    def listen(self: Trainee, step: int, lr: float, batch: Any, teacher: Any, *rest: Any) -> None:
        heard.append(teacher)
        learn(self, step, lr, batch, teacher, *rest)

    monkeypatch.setattr(Trainee, "learn", listen)
    more = [{"model": "resnet8"}, {"model": "cnn", "width": 4}]
    tiny.run(staged(DISTILL, more_teachers=more), tmp_path)
    assert len(heard[0].members) == 3
    assert heard[0].members[0].logits is heard[0].logits
    assert len({float(member.logits.sum()) for member in heard[0].members}) == 3


def test_what_a_stage_cannot_do_is_refused_with_the_reason() -> None:
    assert "no stage stands before" in problems(TAUGHT)["stages.0.taught_by"]
    assert "last stage" in problems(DISTILL, ASSISTANT)["stages.1.student"]
    assert "dml" in problems({**MUTUAL, "methods": []})["stages.0.methods"]
    assert "missing" in problems(DISTILL, teacher=None)["teacher"]
    assert problems(DISTILL, TAUGHT) == {}
    assert "no model" in problems({**DISTILL, "student": {"model": "cn"}}, TAUGHT)["stages.0.student.model"]
    assert "no model" in problems(DISTILL, more_teachers=[{"model": "cn"}])["more_teachers.0.model"]
    assert "list of models" in problems(DISTILL, more_teachers="cnn")["more_teachers"]
