"""What the tests of runs share: a teacher in a file, and a run that nobody disturbed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kd_engine import weights
from kd_engine.models import create
from kd_engine.store import RunFolder
from tests.engine import tiny


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
