"""Counters of energy: files as the kernel has them, a library as NVIDIA's, and why there is none."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kd_engine import energy
from kd_engine.energy import Nvml, Rapl, nvml, rapl


def zone(root: Path, place: str, name: str, microjoules: int = 0, full: int = 1000) -> Path:
    folder = root / place
    folder.mkdir(parents=True)
    for file, text in (("name", name), ("energy_uj", microjoules), ("max_energy_range_uj", full)):
        (folder / file).write_text(f"{text}\n")
    return folder


def count(folder: Path, microjoules: int) -> None:
    (folder / "energy_uj").write_text(f"{microjoules}\n")


def test_packages_are_added_and_their_parts_are_not_counted_twice(tmp_path: Path) -> None:
    one, other = (zone(tmp_path, f"intel-rapl:{i}", f"package-{i}", 10) for i in (0, 1))
    inside = [
        zone(tmp_path, "intel-rapl:0:0", "core"),
        zone(tmp_path, "intel-rapl:2", "psys"),
        zone(tmp_path, "intel-rapl-mmio:0", "package-0"),
    ]
    found = rapl(tmp_path)
    assert isinstance(found, Rapl)
    assert found.name == "RAPL: package-0, package-1"
    assert found.joules() == 0
    count(one, 310), count(other, 710)
    for folder in inside:
        count(folder, 999)
    assert found.joules() == pytest.approx(1000e-6)
    assert found.joules() == pytest.approx(1000e-6)


def test_a_counter_that_goes_round_goes_on(tmp_path: Path) -> None:
    folder = zone(tmp_path, "intel-rapl:0", "package-0", microjoules=900, full=1000)
    found = rapl(tmp_path)
    assert isinstance(found, Rapl)
    told = []
    for microjoules in (950, 50, 40, 40):
        count(folder, microjoules)
        told.append(round(found.joules() * 1e6))
    assert told == [50, 150, 1140, 1140]


def test_no_counter_is_said_to_be_none(tmp_path: Path) -> None:
    assert rapl(tmp_path / "nowhere") == f"no RAPL counter in {tmp_path / 'nowhere'}"
    zone(tmp_path, "intel-rapl:0", "psys")
    assert rapl(tmp_path) == f"no RAPL counter in {tmp_path}"


def test_a_counter_that_may_not_be_read_is_said_to_be_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = zone(tmp_path, "intel-rapl:0", "package-0")
    read = Path.read_text

    def refuse(path: Path, *more: Any, **options: Any) -> str:  # chmod would not stop root
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *more, **options)

    monkeypatch.setattr(Path, "read_text", refuse)
    told = rapl(tmp_path)
    assert isinstance(told, str)
    assert told.startswith(f"{folder / 'energy_uj'} may not be read")


@pytest.mark.parametrize("text", ["", "a lot"])
def test_a_counter_that_says_nonsense_is_said_to_be_unreadable(tmp_path: Path, text: str) -> None:
    folder = zone(tmp_path, "intel-rapl:0", "package-0")
    (folder / "energy_uj").write_text(text)
    told = rapl(tmp_path)
    assert isinstance(told, str)
    assert told.startswith("RAPL cannot be read")


class NVMLError(Exception):
    """As the library's."""


def library(**changes: Any) -> SimpleNamespace:
    """What nvidia-ml-py offers, of a GPU that takes 3 J between two questions."""
    total = iter(range(7000, 99_000, 3000))
    face = {
        "NVMLError": NVMLError,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByUUID": lambda uuid: {"GPU-1": "handle"}[uuid],
        "nvmlDeviceGetName": lambda handle: "H200",
        "nvmlDeviceGetTotalEnergyConsumption": lambda handle: next(total),
    }
    return SimpleNamespace(**{**face, **changes})


def test_a_gpus_millijoules_are_told_as_joules() -> None:
    found = nvml("GPU-1", library())
    assert isinstance(found, Nvml)
    assert found.name == "NVML: H200"
    before = found.joules()
    assert found.joules() - before == pytest.approx(3)


def test_a_gpu_that_does_not_count_is_said_not_to() -> None:
    def refuse(_handle: str) -> int:
        raise NVMLError("Not Supported")

    assert nvml("GPU-1", library(nvmlDeviceGetTotalEnergyConsumption=refuse)) == "NVML: Not Supported"


def test_without_the_library_there_is_no_counter_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(energy.importlib, "import_module", missing)
    assert nvml("GPU-1") == "nvidia-ml-py is not installed"


def test_every_device_has_a_counter_or_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "rapl", lambda: "no counter here")
    assert energy.counter(torch.device("cpu")) == "no counter here"
    assert "mps" in str(energy.counter(torch.device("mps")))
