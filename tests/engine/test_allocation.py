"""Freed memory stays with the process where that was asked for, and goes back when told."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from kd_engine import allocation

# How many new pages a process gets when it asks a second time for as much as it gave back.
AGAIN = """
import resource, sys
import numpy as np
from kd_engine.allocation import give_back, keep_freed

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.full(6_000_000, 1.0)  # 48 MB, given back at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if "keep" in sys.argv:
    keep_freed()
first, second = pages(), pages()
give_back()
print(first, second, pages())
"""

on_glibc = pytest.mark.skipif(not allocation.give_back(), reason="another libc")


def pages(*arguments: str) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", AGAIN, *arguments], capture_output=True, text=True, check=True
    )
    return [int(number) for number in done.stdout.split()]


@on_glibc
def test_what_was_freed_is_used_again_until_it_is_given_back() -> None:
    first, second, third = pages("keep")
    assert min(first, third) > 10 + 4 * second  # of huge pages there are two dozen


@on_glibc
def test_else_the_system_hands_it_out_anew() -> None:
    _, second, _ = pages()
    assert second > 10


# The end of the heap is moved by somebody else while 100 MB before it are in use: they cannot be handed back.
# With "between", another free piece is larger than they are, and malloc gives that first. With "elsewhere",
# the main heap once had no room, so that the thread has another one, whose last piece is never handed back.
HIDDEN = """
import ctypes, resource, sys, threading
import numpy as np
from kd_engine.allocation import keep_freed, nothing_free

keep_freed()
between = np.full(25_000_000, 1.0) if "between" in sys.argv else None
guard, large = np.full(100_000, 1.0), np.full(12_500_000, 1.0)
ctypes.CDLL(None).sbrk(ctypes.c_long(4096))
del between, large

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.full(6_000_000, 1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def measure():
    if "elsewhere" in sys.argv:
        assert not ctypes.CDLL(None).malloc(ctypes.c_size_t(2**60))
        pages()
    hidden = pages()
    with nothing_free() as possible:
        seen = pages()
    print(hidden, seen, int(possible))

if "thread" in sys.argv:
    thread = threading.Thread(target=lambda: (pages(), measure()))
    thread.start()
    thread.join()
else:
    measure()
"""


@on_glibc
@pytest.mark.parametrize("where", ["", "between", "elsewhere", "thread"])
def test_memory_that_is_new_is_seen_also_where_what_is_free_cannot_be_given_back(where: str) -> None:
    done = subprocess.run([sys.executable, "-c", HIDDEN, where], capture_output=True, text=True, check=True)
    hidden, seen, possible = (int(number) for number in done.stdout.split())
    assert possible
    assert seen > 10 + 4 * hidden


def test_without_glibc_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(name: str | None) -> None:
        raise OSError("no such library")

    monkeypatch.setattr(ctypes, "CDLL", no_library)
    allocation.keep_freed()
    assert not allocation.give_back()
    with allocation.nothing_free() as possible:
        assert not possible
