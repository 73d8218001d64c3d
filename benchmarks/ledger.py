"""What was measured last by each module, where and when: `results.json`, from which the page is written.

A module that is run again replaces its own figures and leaves those of the others. One that can measure
nothing on this machine leaves what another machine measured before.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.figures import Figure, from_json, to_json

PACKAGES = ("torch", "numpy", "PySide6-Essentials", "pyqtgraph")


@dataclass(frozen=True)
class Entry:
    """One module's last run. machine, versions: in words; date: as YYYY-MM-DD; seconds: how long it took;
    failed: the last words of one that broke off. small: it ran in sizes whose figures mean nothing."""

    figures: tuple[Figure, ...]
    machine: str
    versions: str
    date: str
    seconds: float
    failed: str = ""
    small: bool = False

    @property
    def measured(self) -> bool:
        return any(figure.value is not None for figure in self.figures)


def merged(before: Mapping[str, Entry], made: Mapping[str, Entry]) -> dict[str, Entry]:
    """The ledger after some modules were run; modules keep their places. One that failed says so beside the
    figures that it had."""
    after = dict(before)
    for name, entry in made.items():
        old = before.get(name)
        if entry.failed and old is not None:
            entry = Entry(**{**vars(old), "failed": entry.failed})
        elif old is not None and old.measured and not entry.measured:
            continue
        after[name] = entry
    return after


def read(file: Path) -> dict[str, Entry]:
    """What stands in the file; nothing where there is none."""
    if not file.exists():
        return {}
    content = json.loads(file.read_text(encoding="utf-8"))
    return {
        name: Entry(**{**entry, "figures": tuple(map(from_json, entry["figures"]))})
        for name, entry in content.items()
    }


def write(file: Path, entries: Mapping[str, Entry]) -> None:
    content = {
        name: {**asdict(entry), "figures": [to_json(figure) for figure in entry.figures]}
        for name, entry in entries.items()
    }
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def today() -> str:
    return time.strftime("%Y-%m-%d")


def machine() -> str:
    """The processor, its cores and the memory, in words; and the GPU, where there is one."""
    import torch

    parts = [f"{_processor()}, {os.cpu_count()} cores"]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        parts.append(f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB")
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ", ".join([*parts, f"{platform.system()} {platform.release()}"])


def versions() -> str:
    return ", ".join(
        [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in PACKAGES)]
    )


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    if not facts.exists():
        return platform.processor() or platform.machine()
    known = dict(
        (part.strip() for part in line.split(":", 1))
        for line in facts.read_text().split("\n\n")[0].splitlines()
        if ":" in line
    )
    name = known.get("model name", platform.machine())
    if "cpu family" in known and "model" in known:
        name += f" (family {known['cpu family']}, model {known['model']})"
    return name
