"""What the tests of runs share: a teacher in a file, and a run that nobody disturbed."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch

from kd_engine import evaluate, weights
from kd_engine.datasets import Loaded
from kd_engine.datasets.digits import Digits
from kd_engine.keeper import Keeper
from kd_engine.models import create
from kd_engine.store import RunFolder
from tests.engine import tiny

BEGIN = Keeper.begin


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network's weights. It knows nothing; what it says is all the same something to learn."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        module = create("cnn", 10, 32, width=2)
    file = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    weights.save_state(file, module.state_dict())
    return file


@pytest.fixture(scope="session")
def undisturbed(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The tiny recipe, run to its end and left alone."""
    return tiny.run(tiny.recipe(teacher), tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Throughput is measured over a moment instead of seconds."""
    monkeypatch.setattr(evaluate, "SECONDS", 0.01)


@pytest.fixture(autouse=True)
def kept_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint is on the disk when the next step begins, so that tests know between which steps they hear
    of it. Those that use `kept_beside` have it as it is."""
    begin = BEGIN

    def begin_and_wait(self: Keeper[Any], work: Callable[[], Any]) -> None:
        begin(self, work)
        assert self._work is not None
        self._work.exception()  # returns when it is done

    monkeypatch.setattr(Keeper, "begin", begin_and_wait)


@pytest.fixture
def kept_beside(monkeypatch: pytest.MonkeyPatch, kept_at_once: None) -> None:
    """Checkpoints are written beside the training, as they are for users, and rather slowly."""
    begin = BEGIN

    def begin_slowly(self: Keeper[Any], work: Callable[[], Any]) -> None:
        begin(self, lambda: (time.sleep(0.02), work())[1])

    monkeypatch.setattr(Keeper, "begin", begin_slowly)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Digits are drawn once for all runs of the process, and latency is measured by two calls: half of what
    a tiny run takes."""
    monkeypatch.setattr(Digits, "load", lambda *_: _digits())
    monkeypatch.setattr(evaluate, "latency", partial(evaluate.latency, repeats=2))


_load = Digits.load


@cache
def _digits() -> Loaded:
    return _load(Digits.Knobs(), Path(), lambda *_: None, 2048)
