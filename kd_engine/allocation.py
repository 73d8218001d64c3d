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
SIZES = [2**power for power in range(26, 17, -1)]  # bytes; what is smaller may be taken again unseen


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

    What is free is handed back, but for the last piece of each heap: that of the main one where somebody else
    has moved the heap's end, those of others always. A thread, also the main one, changes to another heap
    where its own has no room for something. So all that is free and large is taken as long, from the largest
    piece to the smallest, and never touched.
    """
    info, take, let_go = _glibc("mallinfo2"), _glibc("malloc"), _glibc("free")
    if info is None or take is None or let_go is None or not give_back():
        yield False
        return
    info.restype, take.restype = _Info, ctypes.c_void_p
    take.argtypes, let_go.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
    taken = []
    try:
        for size in SIZES:
            while (free := info().fordblks) >= size:
                piece = take(size)
                if info().fordblks >= free:  # it is new: nothing so large was free
                    let_go(piece)
                    break
                taken.append(piece)
        yield True
    finally:
        for piece in taken:
            let_go(piece)


class _Info(ctypes.Structure):
    """What mallinfo2 tells, in bytes. fordblks: all that is free, in every heap."""

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
