"""The teacher's answers, kept: pure memoisation of what it says of (sample, view), shared by runs, rivals and
seeds of the same teacher, data and augmentation.

A shelf is a folder with one folder for each combination of those, under a digest of all that an answer
depends on. Least recently used ones make room for new ones; none that a process is using is taken away.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kd_engine import paths
from kd_engine.disk import told

FACTS = "about.json"
VERSION = 1  # of the files; another one is another key


@dataclass(frozen=True)
class Kept:
    """One folder of answers. about: what they are of, for people. used: when last, seconds since the
    epoch."""

    key: str
    about: Mapping[str, Any]
    bytes: int
    used: float
    busy: bool


class Shelf:
    """All answers that are kept, in the user's cache folder unless told otherwise."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = paths.cache() / "teachers" if root is None else root

    def open(self, key: str, about: Mapping[str, Any]) -> Place:
        """The folder for such a key, made where there is none, and kept from removal until closed. StoreError
        when the disk refuses."""
        with told(self.root):
            folder = self.root / key
            folder.mkdir(parents=True, exist_ok=True)
            place = Place(folder)
            if not (folder / FACTS).exists():
                (folder / FACTS).write_text(json.dumps(dict(about)), encoding="utf-8")
            os.utime(folder / FACTS)
        return place

    def kept(self) -> list[Kept]:
        """What is there, most recently used first."""
        found = [kept for folder in _folders(self.root) if (kept := _look(folder)) is not None]
        return sorted(found, key=lambda kept: -kept.used)

    def bytes(self) -> int:
        """That it takes up on the disk."""
        return sum(kept.bytes for kept in self.kept())

    def clear(self, *keys: str) -> int:
        """Remove these, or all; not what is in use. Returns the bytes that were freed."""
        return sum(self._remove(kept) for kept in self.kept() if not keys or kept.key in keys)

    def make_room(self, wanted: int, budget: int, key: str) -> bool:
        """Remove least recently used ones until `wanted` more bytes for `key` stay within `budget`; False,
        and nothing is removed, where that cannot be."""
        others = [kept for kept in reversed(self.kept()) if kept.key != key]
        over = sum(kept.bytes for kept in others) + wanted - budget
        if over > sum(kept.bytes for kept in others if not kept.busy):
            return False
        for kept in others:
            if over > 0 and not kept.busy:
                over -= self._remove(kept)
        return over <= 0

    def _remove(self, kept: Kept) -> int:
        """Bytes freed: none where somebody has taken it up meanwhile."""
        folder = self.root / kept.key
        if _busy(folder):
            return 0
        shutil.rmtree(folder, ignore_errors=True)
        return 0 if folder.exists() else kept.bytes


class Place:
    """A folder of answers in use: nobody removes it before `close`, or the end of the process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        number = 0
        while True:  # a lock of its own for each user, so that several can use one folder
            self._lock = FileLock(folder / f"user-{os.getpid()}-{number}.lock", thread_local=False)
            try:
                self._lock.acquire(timeout=0)
                return
            except Timeout:
                number += 1

    def close(self) -> None:
        """Idempotent."""
        if self._lock.is_locked:
            self._lock.release()
            with suppress(OSError):
                Path(self._lock.lock_file).unlink(missing_ok=True)


def key_of(*parts: Any) -> str:
    """A folder's name from all that the answers in it depend on."""
    return hashlib.blake2b(repr((VERSION, *parts)).encode(), digest_size=12).hexdigest()


def _folders(root: Path) -> Iterator[Path]:
    try:
        yield from (folder for folder in root.iterdir() if folder.is_dir())
    except OSError:  # there is none yet
        return


def _look(folder: Path) -> Kept | None:
    try:
        about = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        used = (folder / FACTS).stat().st_mtime
        size = sum(_on_disk(file) for file in folder.iterdir())
    except (OSError, ValueError):  # half removed, or not ours
        return None
    return Kept(folder.name, about if isinstance(about, dict) else {}, size, used, _busy(folder))


def _on_disk(file: Path) -> int:
    """Bytes that the file takes up: less than its length, as long as it has holes."""
    stat = file.stat()
    return getattr(stat, "st_blocks", -(-stat.st_size // 512)) * 512


def _busy(folder: Path) -> bool:
    """Whether a living process uses it; locks of dead ones are taken away."""
    for file in folder.glob("user-*.lock"):
        lock = FileLock(file, thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        lock.release()
        with suppress(OSError):
            file.unlink(missing_ok=True)
    return False
