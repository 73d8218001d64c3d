"""Runs whose images are read while they train: bit for bit those with the images in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from kd_engine import batches
from kd_engine import events as e
from kd_engine.commands import StepOnce, Stop
from kd_engine.data import Subset, plan
from kd_engine.datasets import Resident
from kd_engine.session import Session
from kd_engine.store import RunFolder
from tests.engine import tiny

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """No part is in memory; who reads."""
    readers: set[str] = set()
    images = Resident.images

    def read(self: Resident, indices: np.ndarray) -> np.ndarray:
        readers.add(threading.current_thread().name.split("_")[0])
        return images(self, indices)

    monkeypatch.setattr(Resident, "in_memory", property(lambda _: False))
    monkeypatch.setattr(Resident, "images", read)
    yield readers
    assert "kd-data" in readers


@pytest.mark.usefixtures("on_disk")
@pytest.mark.parametrize("step", [1, 2, 4, 5])
def test_a_streamed_run_that_is_stopped_in_mid_epoch_goes_on_bit_for_bit(
    undisturbed: RunFolder, teacher: Path, tmp_path: Path, step: int
) -> None:
    """`undisturbed` had its images in memory."""
    session = Session(tiny.recipe(teacher), tmp_path)
    for _ in range(step):
        session.send(StepOnce())
    tiny.until(session, e.Paused, step=step)
    session.send(Stop())
    assert isinstance(list(session)[-1], e.RunStopped)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("kd-data")]
    again = Session.resume("last", tmp_path)
    tiny.finish(again)
    tiny.assert_same_run(tiny.folder(again), undisturbed)


@pytest.mark.usefixtures("on_disk")
def test_a_streamed_run_is_the_resident_one_bit_for_bit_also_with_few_labels(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two streams at once: of all samples, and of the labelled ones for plain training."""
    few = tiny.recipe(teacher, data__labels_per_class=2, stages__0__rivals=[tiny.PLAIN])
    streamed = tiny.run(few, tmp_path)
    monkeypatch.setattr(Resident, "in_memory", True)
    tiny.assert_same_run(streamed, tiny.run(few, tmp_path))


@pytest.mark.usefixtures("on_disk")
def test_a_streamed_run_that_mixes_goes_on_bit_for_bit_as_the_resident_one(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixing = tiny.recipe(teacher, data__mix="cutmix", data__erase=0.3)
    session = Session(mixing, tmp_path)
    for _ in range(4):
        session.send(StepOnce())
    tiny.until(session, e.Paused, step=4)
    session.send(Stop())
    list(session)
    again = Session.resume("last", tmp_path)
    tiny.finish(again)
    monkeypatch.setattr(Resident, "in_memory", True)
    tiny.assert_same_run(tiny.folder(again), tiny.run(mixing, tmp_path))


@pytest.mark.usefixtures("on_disk")
def test_a_resumed_stream_starts_where_it_stopped(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was trained on before is not read again."""
    session = Session(tiny.recipe(teacher), tmp_path)
    session.send(StepOnce())
    session.send(StepOnce())
    tiny.until(session, e.Paused, step=2)
    session.send(Stop())
    list(session)
    read: list[int] = []
    original = batches._read

    def record(subset: Subset, rows: np.ndarray, share: np.ndarray, pixels: Tensor) -> None:
        read.extend(rows[share] if len(subset) == 45 else ())
        original(subset, rows, share, pixels)

    monkeypatch.setattr(batches, "_read", record)
    again = Session.resume("last", tmp_path)
    with closing(iter(again)):
        tiny.until(again, e.EpochDone, epoch=1)
    last = plan(45, 16, epoch=0, seed=1)[2]
    assert sorted(read) == sorted(last.indices)
