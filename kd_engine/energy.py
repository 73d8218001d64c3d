"""Read the machine's own counters of energy: of the processor (RAPL) or of an NVIDIA GPU (NVML).

A counter tells what its whole chip takes, whoever makes it work, and its idle power too: measure on a quiet
machine, for a second or more. RAPL's packages leave memory, disk and fans out. Where there is no counter, or
we may not read it, we say why.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any, Protocol

import torch

POWERCAP = Path("/sys/class/powercap")


class Counter(Protocol):
    """name: what is counted, for people."""

    name: str

    def joules(self) -> float:
        """Since some fixed moment; never falls. Ask more often than the counter overflows: minutes."""
        ...


class Rapl:
    """The energy of all processor packages, from the files of Linux's powercap interface."""

    def __init__(self, zones: list[Path]) -> None:
        """zones: one folder a package, with `name`, `energy_uj` and `max_energy_range_uj`. OSError or
        ValueError when they cannot be read."""
        self.name = "RAPL: " + ", ".join(_text(zone / "name") for zone in zones)
        self._zones = zones
        self._range = [int(_text(zone / "max_energy_range_uj")) for zone in zones]
        self._last = self._read()
        self._total = 0  # microjoules

    def joules(self) -> float:
        now = self._read()
        for last, new, full in zip(self._last, now, self._range, strict=True):
            self._total += new - last if new >= last else new + full - last  # it went round
        self._last = now
        return self._total / 1e6

    def _read(self) -> list[int]:
        return [int(_text(zone / "energy_uj")) for zone in self._zones]


class Nvml:
    """The energy of one GPU, through nvidia-ml-py; Volta and later count it."""

    def __init__(self, library: Any, uuid: str) -> None:
        """library: the module pynvml, or one like it. Raises its NVMLError."""
        library.nvmlInit()
        self._library = library
        self._handle = library.nvmlDeviceGetHandleByUUID(uuid)
        self.name = "NVML: " + str(library.nvmlDeviceGetName(self._handle))
        self.joules()

    def joules(self) -> float:
        return float(self._library.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1e3


def counter(device: torch.device) -> Counter | str:
    """The counter of the chip that `device` is, or why there is none."""
    if device.type == "cpu":
        return rapl()
    if device.type == "cuda":
        uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
        return nvml(f"GPU-{uuid}") if uuid is not None else "this torch does not tell which GPU it uses"
    return f"no counter of energy is known for {device.type}"


def rapl(root: Path = POWERCAP) -> Rapl | str:
    """All processor packages under `root`, or why they cannot be read."""
    try:
        # intel-rapl:0 is a package, on AMD's processors too; intel-rapl:0:1 a part of it, already counted
        zones = [zone for zone in root.glob("intel-rapl:*") if re.fullmatch(r"intel-rapl:\d+", zone.name)]
        packages = [zone for zone in sorted(zones) if _text(zone / "name").startswith("package")]
        return Rapl(packages) if packages else f"no RAPL counter in {root}"
    except PermissionError as error:
        return f"{error.filename} may not be read: only root may, unless an administrator allows it"
    except (OSError, ValueError) as error:
        return f"RAPL cannot be read: {error}"


def nvml(uuid: str, library: Any = None) -> Nvml | str:
    """The GPU of that UUID, or why it cannot be read. library: pynvml, when not given."""
    try:
        library = library or importlib.import_module("pynvml")
    except ImportError:
        return "nvidia-ml-py is not installed"
    try:
        return Nvml(library, uuid)
    except library.NVMLError as error:
        return f"NVML: {error}"


def _text(path: Path) -> str:
    return path.read_text(encoding="ascii").strip()
