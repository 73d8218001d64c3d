"""Write files whole, and say in words what the disk refuses. Imports no torch."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kd_engine.errors import StoreError


def sync(path: Path) -> None:
    """Make sure that a file's bytes, or a folder's entries, are on the disk. A no-op for folders on
    Windows."""
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary name to write to; on leaving, it is synced and renamed to `target`, which is whole at any
    moment. StoreError when the disk refuses."""
    temporary = target.with_name(f".{target.name}.tmp")
    with told(target):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            sync(temporary)
            os.replace(temporary, target)
            sync(target.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into a StoreError that says what and where."""
    try:
        yield
    except OSError as error:
        raise refused(path, error) from error


def remove(folder: Path, attempts: int = 10) -> None:
    """All of it, also while somebody looks whether the run is going, which leaves a lock's file behind."""
    for _ in range(attempts - 1):
        try:
            shutil.rmtree(folder)
            return
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
            time.sleep(0.02)
    shutil.rmtree(folder)


WAYS_OUT = {
    errno.ENOSPC: "Free some space",
    errno.EDQUOT: "Free some space",
    errno.EACCES: "Choose a folder that you may write to",
    errno.EPERM: "Choose a folder that you may write to",
    errno.EROFS: "Choose a folder that can be written",
    errno.EEXIST: "A file is in the way: choose another folder",
    errno.ENOTDIR: "A file is in the way: choose another folder",
}


def refused(path: Path, error: OSError) -> StoreError:
    what = error.strerror or str(error)
    way = WAYS_OUT.get(error.errno or 0, "Check the disk")
    return StoreError(f"{path}: cannot be written: {what}.", f"{way}; everything written before is intact.")
