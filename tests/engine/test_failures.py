"""What went wrong, in words: a code, what happened, the way out; and the session ends with an event, not with
a traceback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from kd_engine import events as e
from kd_engine.errors import DataError, KdError, Problem, RecipeError, StoreError, WeightsError
from kd_engine.failures import cause_of_nan, explain, is_out_of_memory
from kd_engine.session import Session
from kd_engine.trainee import Trainee
from tests.engine import tiny

pytestmark = pytest.mark.usefixtures("quick")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RecipeError([Problem("a.b", "wrong"), Problem("c", "too")]), "recipe"),
        (DataError("no data", "get some"), "data"),
        (WeightsError("no weights", "get some"), "weights"),
        (StoreError("no store", "get some"), "store"),
        (KdError("no setup", "get some"), "setup"),
    ],
)
def test_a_users_error_keeps_its_words_and_its_way_out(error: KdError, code: str) -> None:
    assert explain(error, 128) == (code, error.message, error.hint)


def test_every_problem_of_a_recipe_is_in_its_message() -> None:
    _, message, _ = explain(RecipeError([Problem("a.b", "wrong"), Problem("c", "too")]))
    assert message == "a.b: wrong\nc: too"


def real_shortage() -> BaseException:
    """What torch's CPU allocator really raises."""
    with pytest.raises(RuntimeError) as told:
        torch.empty(2**60)
    return told.value


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        real_shortage(),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
    ids=["python", "cuda", "cpu", "cudnn"],
)
def test_out_of_memory_is_told_with_half_the_batch_size(error: BaseException) -> None:
    assert is_out_of_memory(error)
    assert explain(error, 128) == ("memory", "Out of memory at batch size 128.", "Try batch size 64.")
    assert explain(error, 3)[2] == "Try batch size 1."
    assert explain(error, 1) == ("memory", "Out of memory.", "Try a smaller model, or close other programs.")


def test_other_runtime_errors_are_not_out_of_memory() -> None:
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    code, message, hint = explain(RuntimeError("mat1 and mat2"), 128)
    assert (code, message) == ("error", "RuntimeError: mat1 and mat2")
    assert "failure.txt" in hint


def test_the_cause_of_a_nan_names_the_losses_where_they_are_known() -> None:
    assert cause_of_nan((), 0.5) == "the learning rate 0.5 is likely too high"
    assert cause_of_nan(("kd", "at"), 10.0) == (
        "the learning rate 10 is likely too high (the first bad number was in kd, at)"
    )


# -- in a session --


def failing(session: Session) -> e.RunFailed:
    told = list(session)[-1]
    assert isinstance(told, e.RunFailed)
    assert list(session) == []
    if session.run is not None:
        assert not session.run.locked()
    return told


def test_a_step_that_runs_out_of_memory_ends_the_run_which_can_go_on(
    undisturbed: Any, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn = Trainee.learn

    def greedy(self: Trainee, step: int, *rest: Any) -> None:
        if step == 4:
            torch.empty(2**60)
        learn(self, step, *rest)

    monkeypatch.setattr(Trainee, "learn", greedy)
    session = Session(tiny.recipe(teacher), tmp_path)
    told = failing(session)
    assert (told.error, told.hint, told.step, told.resumable) == ("memory", "Try batch size 8.", 4, True)
    assert tiny.folder(session).status() == "failed"
    monkeypatch.undo()
    again = Session.resume("last", tmp_path)
    tiny.finish(again)
    tiny.assert_same_run(tiny.folder(again), undisturbed)


def test_a_fault_of_the_program_leaves_its_traceback_in_the_runs_folder(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("nobody foresaw it")

    monkeypatch.setattr(Trainee, "learn", broken)
    session = Session(tiny.recipe(teacher), tmp_path)
    told = failing(session)
    assert (told.error, told.message) == ("error", "ZeroDivisionError: nobody foresaw it")
    text = tiny.folder(session).path("failure.txt").read_text()
    assert "Traceback" in text
    assert "in broken" in text
    assert "nobody foresaw it" in caplog.text


def test_a_users_mistake_is_logged_without_a_traceback(
    teacher: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = tiny.recipe(teacher, teacher__width=3)
    told = failing(Session(made, tmp_path))
    assert told.error == "weights"
    assert "does not fit the model" in told.message
    assert "Traceback" not in caplog.text
    assert not list(tmp_path.glob("*/failure.txt"))


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"data__subset": 5}, "data", "data.subset: 5 samples cannot hold all 10 classes"),
        ({"hardware__precision": "bf16"}, "setup", "bf16 needs a GPU"),
        (
            {"stages__0__schedule": {"name": "step", "milestones": "0.5,then"}},
            "recipe",
            "stages.0.schedule.milestones: got '0.5,then', expected shares of the training such as 0.5,0.75",
        ),
        (
            {"stages__0__schedule": {"name": "step", "milestones": "0.5,1.5"}},
            "recipe",
            "got 1.5, expected a share between 0 and 1",
        ),
    ],
)
def test_what_only_shows_with_data_and_models_at_hand_is_told(
    teacher: Path, tmp_path: Path, changes: dict[str, Any], code: str, words: str
) -> None:
    told = failing(Session(tiny.recipe(teacher, **changes), tmp_path))
    assert told.error == code
    assert words in told.message
    assert not told.resumable


def test_every_impossible_method_is_named_at_once(teacher: Path, tmp_path: Path) -> None:
    """The teacher has stages, the student blocks."""
    rival = {"name": "other", "label_weight": 1.0, "methods": [{"method": "at"}]}
    made = tiny.recipe(
        teacher,
        student={"model": "vit-tiny", "depth": 1},
        stages__0__methods=[{"method": "at"}, {"method": "kd"}],
        stages__0__rivals=[rival],
        stages__0__schedule={"name": "step", "milestones": "2"},
    )
    told = failing(Session(made, tmp_path))
    assert told.error == "recipe"
    places = [line.split(":")[0] for line in told.message.splitlines()]
    assert places == ["stages.0.methods.0", "stages.0.rivals.0.methods.0", "stages.0.schedule.milestones"]
