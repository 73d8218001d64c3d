"""The folder of runs: each run is a folder, complete in itself, that can be copied to another machine.

The log is append-only (see kd_engine.run_log). Everything else is written under a temporary name, synced and
renamed, so that a crash at any moment leaves either the old file or the new one. Imports no torch.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kd_engine import paths
from kd_engine.disk import refused, remove, replacing, told
from kd_engine.document import VERSION
from kd_engine.errors import StoreError, did_you_mean
from kd_engine.events import Event
from kd_engine.run_log import RunLog, parsed

RECIPE = "recipe.json"
EVENTS = "events.jsonl"
SUMMARY = "summary.json"
ENVIRONMENT = "environment.json"
RESUME = "resume.pt"
LAST = "last.safetensors"
BEST = "best.safetensors"
LOCK = ".lock"

# Who only looks whether a run is going holds its lock for a moment, too.
PATIENCE_S = 1.0  # of one who wants the lock
GLANCE_S = 0.005  # of one who only looks


def assistant_file(stage: int) -> str:
    """Where the student is kept that ended a stage and teaches the next."""
    return f"stage_{stage}.safetensors"


@dataclass(frozen=True)
class RunInfo:
    """One row of the table of runs, read without opening anything large.

    status: running, done, stopped, failed, or interrupted (it ended without a word). resumable: from its last
    checkpoint; one that was stopped or interrupted before its first begins anew.
    """

    name: str
    folder: Path
    created: float
    recipe: dict[str, Any]
    status: str
    summary: dict[str, Any]
    resumable: bool

    @property
    def title(self) -> str:
        return str(self.recipe.get("name") or self.name)

    @property
    def seconds(self) -> Any:
        """Of training, as the summary says; None while the run is going and after it was killed, because its
        summary is then from its start."""
        return None if self.status in ("running", "interrupted") else self.summary.get("seconds")


class RunFolder:
    """One run's folder: read it, append events, write files whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._log = RunLog(folder / EVENTS)

    @cached_property
    def _lock(self) -> FileLock:
        """Made when needed: of a thousand runs that are listed, few are asked whether they are going."""
        return FileLock(self.folder / LOCK, thread_local=False)  # any thread may end the run

    @property
    def name(self) -> str:
        return self.folder.name

    def path(self, name: str) -> Path:
        return self.folder / name

    def recipe(self) -> dict[str, Any]:
        """The recipe as a document. StoreError when it is missing, broken, or from a newer version."""
        found = self.read_json(RECIPE)
        if found is None:
            raise StoreError(f"{self.folder}: not a run: no readable {RECIPE} in it.")
        version = found.get("version")
        if isinstance(version, int) and version > VERSION:
            raise StoreError(
                f"{self.name}: made by a newer version of kd-studio (recipe version {version}, this "
                f"one reads {VERSION}).",
                "Update kd-studio to open it; nothing in it was changed.",
            )
        return found

    def read_json(self, name: str) -> dict[str, Any] | None:
        """A JSON file's object, or None when it is absent or not readable as one."""
        try:
            data = parsed(self.path(name).read_bytes())
        except (OSError, ValueError):
            return None
        return data if isinstance(data, dict) else None

    def write_json(self, name: str, data: dict[str, Any]) -> None:
        text = json.dumps(data, indent=1, allow_nan=True)
        self.write(name, lambda path: path.write_text(text + "\n", encoding="utf-8"))

    def write(self, name: str, save: Callable[[Path], Any]) -> Path:
        """Let `save` write a temporary file, then sync and rename it to `name`. StoreError when the disk
        refuses, and when somebody removed the folder."""
        if not self.folder.is_dir():
            raise StoreError(f"{self.folder}: the run's folder is gone.", "Run its recipe anew.")
        with replacing(self.path(name)) as temporary:
            save(temporary)
        return self.path(name)

    def remove(self, name: str) -> None:
        with told(self.path(name)):
            self.path(name).unlink(missing_ok=True)

    def append(self, event: Event) -> None:
        """Add one event to the log; see `RunLog.append`."""
        self._log.append(event)

    def events(self) -> Iterator[Event]:
        """All events that hold; see `RunLog.events`."""
        return self._log.events()

    def raw_events(self) -> Iterator[Event]:
        """All events as logged."""
        return self._log.raw_events()

    def status(self) -> str:
        """running, done, stopped, failed or interrupted; read from the lock and the summary."""
        return self._status(self.read_json(SUMMARY) or {})

    def _status(self, summary: dict[str, Any]) -> str:
        """A run that is going calls itself interrupted, which is true if it never writes another word: only
        then its lock must be tried, which takes as long as all the rest."""
        status = str(summary.get("status", "interrupted"))
        return "running" if status == "interrupted" and self.locked() else status

    def resumable(self, status: str | None = None) -> bool:
        """Whether it can go on: from its last checkpoint, or, when it was ended before its first, anew.
        status: where it is known already."""
        status = status or self.status()
        return status in ("stopped", "interrupted") or (status == "failed" and self.path(RESUME).is_file())

    def locked(self) -> bool:
        """Whether a living process trains this run now."""
        if self._lock.is_locked:
            return True
        if not self.path(LOCK).exists():
            return False
        probe = FileLock(self.path(LOCK))
        try:
            probe.acquire(timeout=GLANCE_S, poll_interval=GLANCE_S / 2)
        except Timeout:
            return True
        except OSError:
            return False  # a copy that cannot be written: nobody trains it there
        probe.release()
        return False

    def lock(self) -> None:
        """Claim the run for this process. StoreError when another one has it."""
        try:
            self._lock.acquire(timeout=PATIENCE_S)
        except Timeout:
            raise StoreError(
                f"{self.name}: another process is training this run.", "Stop that one first."
            ) from None
        except OSError as error:
            raise refused(self.path(LOCK), error) from error

    def close(self) -> None:
        """Close the log and let go of the lock. Idempotent."""
        self._log.close()
        self._lock.release()

    def delete(self) -> None:
        """Remove the folder and all in it. StoreError while a process trains it."""
        self.close()
        if self.locked():
            raise StoreError(f"{self.name}: a process is training this run.", "Stop it first.")
        with told(self.folder):
            remove(self.folder)


class Store:
    """A folder of runs. Made when the first run is."""

    def __init__(self, root: Path | str | None = None) -> None:
        self.root = Path(root) if root is not None else paths.runs()

    def create(self, document: dict[str, Any]) -> RunFolder:
        """A new run's folder, locked for this process, with its recipe in it."""
        slug = re.sub(r"[^a-z0-9]+", "-", str(document.get("name", "run")).lower()).strip("-")[:32] or "run"
        with told(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            while True:
                folder = self.root / f"{time.strftime('%Y-%m-%d')}_{slug}_{secrets.token_hex(2)}"
                try:
                    folder.mkdir()
                    break
                except FileExistsError:
                    continue
        run = RunFolder(folder)
        try:
            run.lock()
            run.write_json(RECIPE, document)
        except StoreError:
            run.close()
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return run

    def open(self, name: str | Path) -> RunFolder:
        """A run by name, by an unambiguous part of it, by "last", or by path. StoreError when there is
        none."""
        if Path(name).joinpath(RECIPE).is_file():
            return RunFolder(Path(name).resolve())
        names = [folder.name for folder in self._folders()]
        if str(name) == "last" and names:
            return RunFolder(self.root / names[0])
        matches = [known for known in names if known == str(name)] or [n for n in names if str(name) in n]
        if len(matches) == 1:
            return RunFolder(self.root / matches[0])
        if matches:
            raise StoreError(
                f"'{name}' fits {len(matches)} runs: {', '.join(matches[:5])}.", "Say more of the name."
            )
        hint = f"It has {len(names)} runs; `kd runs` lists them." if names else "It has no runs yet."
        raise StoreError(f"no run '{name}' in {self.root}{did_you_mean(str(name), names)}.", hint)

    def runs(self) -> list[RunInfo]:
        """All runs, newest first. Folders that are no runs are passed over."""
        infos = (self.info(RunFolder(folder)) for folder in self._folders())
        return [info for info in infos if info is not None]

    def newest(self) -> RunInfo | None:
        """The first of `runs`, without reading the others."""
        infos = (self.info(RunFolder(folder)) for folder in self._folders())
        return next((info for info in infos if info is not None), None)

    def stamps(self) -> dict[str, int]:
        """Of every folder that may be a run, by name: when its entries last changed, in ns. Reads no file."""
        try:
            with os.scandir(self.root) as entries:
                made = {entry.name: _stamp(entry) for entry in entries}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise StoreError(f"{self.root}: cannot be read: {error.strerror}.") from error
        return {name: stamp for name, stamp in made.items() if stamp is not None}

    def info(self, run: RunFolder) -> RunInfo | None:
        """None for a folder that is no run, or no longer."""
        document, created = run.read_json(RECIPE), _made(run.folder)
        if document is None or created is None:
            return None
        summary = run.read_json(SUMMARY) or {}
        status = run._status(summary)
        return RunInfo(run.name, run.folder, created, document, status, summary, run.resumable(status))

    def _folders(self) -> list[Path]:
        try:
            made = {folder: _made(folder) for folder in self.root.iterdir()}
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"{self.root}: cannot be read: {error.strerror}") from error
        runs = {folder: when for folder, when in made.items() if when is not None}
        return sorted(runs, key=lambda folder: (runs[folder], folder.name), reverse=True)


def _stamp(entry: os.DirEntry[str]) -> int | None:
    """When a folder's entries last changed; None for a file, and for what is gone or cannot be looked at."""
    try:
        return entry.stat().st_mtime_ns if entry.is_dir() else None
    except OSError:
        return None


def _made(folder: Path) -> float | None:
    """When a run's folder was made; None for a folder that is no run, or cannot be looked into."""
    try:
        return (folder / RECIPE).stat().st_mtime
    except OSError:
        return None
