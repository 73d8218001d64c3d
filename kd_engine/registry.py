"""Find plug-ins by walking folders: one file each, no list anywhere. A broken one is reported, never fatal.

A plug-in is a class with a `name` of its own that derives from the base of its kind (`Method`,
`Architecture`, `Dataset`, ...). It is found in `kd_engine/KIND/*.py`, in `KIND/*.py` of every folder in
`$KD_PLUGINS`, and in modules that other packages name in the entry-point group `kd_engine.plugins` (the
entry's name is the kind, as in `methods.toy`). This module imports no torch; `discover` does, because plug-
ins do.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from kd_engine import paths
from kd_engine.errors import KdError, did_you_mean
from kd_engine.knobs import Knobs

KINDS = ("tasks", "datasets", "models", "methods", "probes", "stages", "exporters")
GROUP = "kd_engine.plugins"


class Plugin:
    """What every plug-in declares. `source`: the paper or page it follows. `caution`: what its users should
    know."""

    name: ClassVar[str]
    title: ClassVar[str] = ""
    help: ClassVar[str] = ""
    source: ClassVar[str] = ""
    caution: ClassVar[str] = ""
    Knobs: ClassVar[type[Knobs]] = Knobs

    @classmethod
    def unavailable(cls) -> str | None:
        """Why it cannot be used here (a missing package, no GPU), or None."""
        return None

    @classmethod
    def facts(cls) -> dict[str, Any]:
        """More plain values for the catalog (a model family's names, the taps a method needs)."""
        return {}


@dataclass(frozen=True)
class Broken:
    """A plug-in that could not be imported."""

    kind: str
    module: str
    reason: str


@dataclass
class Found:
    plugins: dict[str, type[Plugin]] = field(default_factory=dict)
    broken: list[Broken] = field(default_factory=list)


def discover(kind: str) -> Found:
    """All plug-ins of `kind` by name, and the broken ones. Files are looked up anew at each call; imports
    happen once."""
    base = importlib.import_module(f"kd_engine.{kind}").Base
    found = Found()
    for label, load in _modules(kind):
        try:
            module = load()
        except (Exception, SystemExit) as error:  # a plug-in's own fault, reported in the catalog
            found.broken.append(Broken(kind, label, f"{type(error).__name__}: {error}"))
            continue
        for value in vars(module).values():
            own = isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
            if own and "name" in vars(value):
                found.plugins[value.name] = value
    return found


def find(kind: str, name: str) -> type[Any]:
    """The plug-in called `name`. KdError with a suggestion when there is none, or when it is unavailable."""
    found = discover(kind)
    if name not in found.plugins:
        reasons = [f"{b.module} failed to import: {b.reason}" for b in found.broken]
        raise KdError(
            f"no {kind.rstrip('s')} '{name}'{did_you_mean(name, found.plugins)}.", "; ".join(reasons)
        )
    plugin = found.plugins[name]
    if (why := plugin.unavailable()) is not None:
        raise KdError(f"{kind.rstrip('s')} '{name}' is unavailable: {why}")
    return plugin


def fingerprint() -> str:
    """Changes whenever a plug-in file, or the engine's own code, is added, removed or edited, or a package is
    installed or removed: what is unavailable depends on it."""
    digest = hashlib.sha256(sys.version.encode())
    for file in sorted(
        [*_files_below(Path(__file__).parent), *(f for p in paths.plugins() for f in _files_below(p))]
    ):
        stat = file.stat()
        digest.update(f"{file}|{stat.st_size}|{stat.st_mtime_ns}\n".encode())
    installed = Path(sysconfig.get_path("purelib"))
    digest.update(f"{installed.stat().st_mtime_ns if installed.is_dir() else ''}\n".encode())
    for entry in _entry_points():
        digest.update(f"{entry.name}={entry.value}|{entry.dist.version if entry.dist else ''}\n".encode())
    return digest.hexdigest()[:16]


def _files_below(folder: Path) -> Iterator[Path]:
    return (file for file in folder.rglob("*.py") if "__pycache__" not in file.parts)


@cache  # reading what is installed takes 2 ms, and stays the same for a process
def _entry_points() -> list[EntryPoint]:
    return sorted(entry_points(group=GROUP), key=lambda entry: entry.name)


def _modules(kind: str) -> Iterator[tuple[str, Any]]:
    for file in _plugin_files(Path(__file__).parent / kind):
        name = f"kd_engine.{kind}.{file.stem}"
        yield name, lambda name=name: importlib.import_module(name)
    for folder in paths.plugins():
        for file in _plugin_files(folder / kind):
            yield str(file), lambda file=file: _import_file(file, file.stat().st_mtime_ns)
    for entry in _entry_points():
        if entry.name.split(".")[0] == kind:
            yield entry.value, lambda entry=entry: importlib.import_module(entry.value)


def _plugin_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.py") if not file.name.startswith("_"))


@cache
def _import_file(file: Path, _mtime_ns: int) -> ModuleType:
    name = f"kd_plugin_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
