"""Checkpoints written beside the training: told when they are there, before anything depends on them."""

from __future__ import annotations

import errno
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from kd_engine import checkpoint
from kd_engine import events as e
from kd_engine.commands import SetKnob, Stop
from kd_engine.keeper import Keeper
from kd_engine.session import Session
from kd_engine.store import RESUME, RunFolder
from tests.engine import tiny

pytestmark = pytest.mark.usefixtures("kept_beside")


def test_the_outcome_is_told_once_when_it_is_there() -> None:
    keeper, gate = Keeper[int](), threading.Event()
    assert keeper.outcome(wait=True) is None
    keeper.begin(lambda: 7 if gate.wait(10) else 0)
    assert keeper.outcome(wait=False) is None
    with pytest.raises(RuntimeError):
        keeper.begin(lambda: 8)
    gate.set()
    assert keeper.outcome(wait=True) == 7
    assert keeper.outcome(wait=True) is None


def test_what_went_wrong_is_raised_where_the_outcome_is_asked_for() -> None:
    keeper = Keeper[int]()
    keeper.begin(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        keeper.outcome(wait=True)
    keeper.begin(lambda: 1)  # and then it is free again
    assert keeper.outcome(wait=True) == 1


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """No checkpoint after the first reaches the disk until this is set."""
    gate, save, many = threading.Event(), checkpoint.save, [0]

    def wait_and_save(*both: Any) -> Any:
        many[0] += 1
        assert many[0] == 1 or gate.wait(30)
        return save(*both)

    monkeypatch.setattr(checkpoint, "save", wait_and_save)
    monkeypatch.setattr("kd_engine.journal.REPORT_S", 0.0)
    return gate


def test_training_goes_on_meanwhile_and_ends_with_the_same_weights(
    undisturbed: RunFolder, teacher: Path, tmp_path: Path, held: threading.Event
) -> None:
    session = Session(tiny.recipe(teacher), tmp_path)
    tiny.until(session, e.EpochDone, epoch=1)
    told = tiny.until(session, e.StepDone, epoch=1)
    assert not tiny.of(e.CheckpointSaved, told)
    held.set()
    told = tiny.finish(session)
    assert [saved.epoch for saved in tiny.of(e.CheckpointSaved, told)] == [1, 2]
    tiny.assert_same_run(undisturbed, tiny.folder(session))


def test_a_change_waits_for_the_checkpoint_that_it_is_not_in(
    teacher: Path, tmp_path: Path, held: threading.Event
) -> None:
    session = Session(tiny.recipe(teacher), tmp_path)
    tiny.until(session, e.EpochDone, epoch=1)
    tiny.until(session, e.StepDone, epoch=1)
    session.send(SetKnob(tiny.LR, 0.01))
    threading.Timer(0.1, held.set).start()
    told = tiny.until(session, e.KnobChanged)
    assert [type(event) for event in told if not isinstance(event, e.StepDone)] == [
        e.CheckpointSaved,
        e.KnobChanged,
    ]
    session.send(Stop())
    list(session)


def test_a_disk_that_fills_up_meanwhile_ends_the_run_at_the_checkpoint_before(
    undisturbed: RunFolder, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, write = Session(tiny.recipe(teacher), tmp_path), Path.write_bytes
    tiny.until(session, e.EpochDone, epoch=1)

    def no_room(self: Path, data: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", no_room)
    failed = tiny.of(e.RunFailed, list(session))[0]
    assert (failed.error, failed.resumable) == ("store", True)
    monkeypatch.setattr(Path, "write_bytes", write)
    resumed = Session.resume("last", tmp_path)
    tiny.finish(resumed)
    tiny.assert_same_run(undisturbed, tiny.folder(resumed))


@pytest.mark.parametrize("keep", [True, False])
def test_a_stop_waits_for_it(teacher: Path, tmp_path: Path, keep: bool) -> None:
    session = Session(tiny.recipe(teacher), tmp_path)
    tiny.until(session, e.EpochDone, epoch=1)
    session.send(Stop(keep=keep))
    told = list(session)
    assert isinstance(told[-1], e.RunStopped)
    assert [path.name for path in tmp_path.iterdir()] == ([tiny.folder(session).name] if keep else [])
    if keep:
        assert tiny.folder(session).path(RESUME).exists()
        assert tiny.of(e.CheckpointSaved, told)[-1].step == told[-1].step


def test_left_in_the_middle_the_log_still_tells_of_it(teacher: Path, tmp_path: Path) -> None:
    session = Session(tiny.recipe(teacher), tmp_path)
    with closing(iter(session)):
        tiny.until(session, e.EpochDone, epoch=1)
        tiny.until(session, e.StepDone, epoch=1)
    logged = list(tiny.folder(session).raw_events())
    assert [saved.epoch for saved in tiny.of(e.CheckpointSaved, logged)] == [0, 1]
