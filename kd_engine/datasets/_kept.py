"""Decoded pictures, kept in the user's cache so that the next start need not decode them again.

Only a matter of time: whatever goes wrong here, the pictures are decoded as if nothing had been kept.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np

from kd_engine import paths

MOST = 4  # sets of pictures kept; the one that was longest unused goes first


def recall(key: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """The uint8 array that `keep` put away under `key`, or None."""
    file = _folder() / f"{key}.npy"
    try:
        pixels = np.load(file, allow_pickle=False)
        os.utime(file)
    except (OSError, ValueError, EOFError):  # not there, or cut short by a full disk
        return None
    return pixels if pixels.shape == shape and pixels.dtype == np.uint8 else None


def keep(key: str, pixels: np.ndarray) -> None:
    """Put `pixels` away under `key`, whole or not at all; at most MOST sets stay."""
    part = _folder() / f".{key}.{os.getpid()}.part"
    with contextlib.suppress(OSError):  # a full disk, or a cache that cannot be written
        part.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as stream:
                np.save(stream, pixels, allow_pickle=False)
            part.replace(part.with_name(f"{key}.npy"))
        finally:
            part.unlink(missing_ok=True)
        newest = sorted(_folder().glob("*.npy"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
        for file in newest[MOST:]:
            file.unlink(missing_ok=True)


def _folder() -> Path:
    return paths.cache() / "pictures"
