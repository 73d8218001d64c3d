"""torchvision imports also where its compiled extension cannot load, and quietly."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

from kd_engine import _torchvision
from kd_engine.errors import KdError

import_anew = _torchvision.import_torchvision.__wrapped__
MISSING = RuntimeError("operator torchvision::nms does not exist")


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120
    )


def test_a_fresh_interpreter_imports_torchvision_without_a_word() -> None:
    done = python(
        "from kd_engine._torchvision import import_torchvision\n"
        "first = import_torchvision()\n"
        "import torchvision, torchvision.datasets\n"
        "assert torchvision is first is import_torchvision()\n"
        "assert 'resnet18' in torchvision.models.list_models()\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_listing_all_models_does_not_import_torchvision() -> None:
    done = python(
        "import sys\n"
        "from kd_engine.registry import discover\n"
        "found = discover('models')\n"
        "assert not found.broken, found.broken\n"
        "assert len(found.plugins['torchvision'].names) > 50\n"
        "assert 'torchvision' not in sys.modules\n"
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_is_declared_where_the_extension_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    fine = ModuleType("torchvision")
    monkeypatch.setattr(_torchvision, "_import", lambda: fine)
    monkeypatch.setattr(_torchvision, "_declare_operators", lambda: pytest.fail("declared"))
    assert import_anew() is fine


def test_the_operators_are_declared_once_and_the_import_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    fine, declared = ModuleType("torchvision"), []

    def pretend() -> ModuleType:
        if not declared:
            raise MISSING
        return fine

    monkeypatch.setattr(_torchvision, "_import", pretend)
    monkeypatch.setattr(_torchvision, "_declare_operators", lambda: declared.append(True))
    assert import_anew() is fine
    assert declared == [True]


def test_another_fault_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def pretend() -> ModuleType:
        raise RuntimeError("different CUDA major versions")

    monkeypatch.setattr(_torchvision, "_import", pretend)
    monkeypatch.setattr(_torchvision, "_declare_operators", lambda: pytest.fail("declared"))
    with pytest.raises(RuntimeError, match="CUDA major"):
        import_anew()


def test_a_missing_package_is_told_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> ModuleType:
        raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    monkeypatch.setattr(_torchvision.importlib, "import_module", absent)
    with pytest.raises(KdError, match="pip install torchvision"):
        import_anew()
