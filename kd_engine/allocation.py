"""Let memory that was freed stay with the process: every training step asks for the same again.

glibc gives large pieces back to the system as soon as they are free, and the system fills them with zeros
when they are asked for again: thousands of pages a step. With a student and its rival on threads of their own
that is a twentieth to a tenth of an epoch (`python -m benchmarks.waiting`). It changes no number. Where there
is no glibc, nothing is done.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # glibc's names for what mallopt sets
LARGE = 2**30  # bytes: only such a piece is one of the system's own, and goes back when it is free
MOST = 2**31 - 1  # bytes that stay although they are free
AHEAD = 2**26  # bytes asked of the system at a time


def keep_freed() -> None:
    """For the whole process, from now on; `give_back` is its other half. For processes that are ours."""
    if (mallopt := _glibc("mallopt")) is not None:
        for what, value in ((MMAP_THRESHOLD, LARGE), (TRIM_THRESHOLD, MOST), (TOP_PAD, AHEAD)):
            mallopt(what, value)


def give_back() -> bool:
    """Hand memory that was freed but kept to the system; False where that cannot be asked for."""
    if (trim := _glibc("malloc_trim")) is None:
        return False
    trim(0)
    return True


def _glibc(name: str) -> Callable[..., int] | None:
    """A function of it; None with another libc, on macOS and Windows."""
    try:
        found: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError, TypeError):
        return None
    return found
