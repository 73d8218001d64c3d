"""Let memory that was freed stay with the process: every training step asks for the same again.

glibc gives large pieces back to the system as soon as they are free, and the system fills them with zeros
when they are asked for again: thousands of pages a step. With a student and its rival on threads of their own
that is a twentieth to a tenth of an epoch (`python -m benchmarks.waiting`). It changes no number. Where there
is no glibc, nothing is done.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # glibc's names for what mallopt sets
LARGE = 2**30  # bytes: only such a piece is one of the system's own, and goes back when it is free
MOST = 2**31 - 1  # bytes that stay although they are free
AHEAD = 2**26  # bytes asked of the system at a time
PAGE = 4096
NEGLIGIBLE = 16 * PAGE  # bytes that may be taken again unseen


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


@contextmanager
def nothing_free() -> Iterator[bool]:
    """While it lasts, memory that this thread asks for is new to the process, so that it can be seen to grow;
    False where that cannot be had.

    What is free is handed back; but the last piece of the heap stays where somebody else has moved the heap's
    end, so it is taken as long, and never touched. malloc hands out other free pieces of that size before it:
    these are taken too.
    """
    info, take, let_go = _glibc("mallinfo2"), _glibc("malloc"), _glibc("free")
    if info is None or take is None or let_go is None or not give_back():
        yield False
        return
    info.restype, take.restype = _Info, ctypes.c_void_p
    take.argtypes, let_go.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
    taken = []
    try:
        while (before := info()).keepcost > NEGLIGIBLE:
            taken.append(take(before.keepcost - PAGE))
            if info().fordblks >= before.fordblks:  # it was not from there: this thread has a heap of its own
                yield False
                return
        yield True
    finally:
        for piece in taken:
            let_go(piece)


class _Info(ctypes.Structure):
    """What mallinfo2 tells, in bytes. fordblks: all that is free; keepcost: the main heap's last piece."""

    _fields_ = (
        *((f"other{i}", ctypes.c_size_t) for i in range(8)),
        ("fordblks", ctypes.c_size_t),
        ("keepcost", ctypes.c_size_t),
    )


def _glibc(name: str) -> Any:
    """A function of it, with types of its own; None with another libc, on macOS and Windows."""
    try:
        return ctypes.CDLL(None)[name]
    except (OSError, AttributeError, TypeError):
        return None
