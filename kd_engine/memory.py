"""Rows of 16-bit words by number, on disk or in memory, filled one by one: what a teacher said, kept.

Every row has a checksum beside it, written after it. A row that was half written by a process that was
killed, or by a machine that lost its power, is therefore a row that is not there. Two processes may fill the
same files: both write the same bytes to the same place.
"""

from __future__ import annotations

import math
import mmap
from pathlib import Path
from typing import Any

import numpy as np

TOUCHED = 2**26  # bytes read before the pages are given back: mapped pages count as memory of the process


class Rows:
    """`count` rows of `words` words (uint16). file: their place, without a suffix; None keeps them in memory.

    OSError when the disk refuses.
    """

    def __init__(self, count: int, words: int, file: Path | None = None) -> None:
        self.count = count
        self._used = words
        self._words = words = -(-words // 4) * 4  # whole 64-bit numbers, for the checksum
        self._odd = np.arange(1, words // 2, 2, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        self._touched = 0
        self._sound = np.zeros(count, bool)  # rows whose checksum was found right: once is enough
        self._files: tuple[Path, ...] = ()
        self._mapped: np.memmap[Any, Any] | None = None
        if file is None:
            self._rows, self._sums = np.zeros((count, words), np.uint16), np.zeros(count, np.uint16)
            return
        self._files = Path(f"{file}.rows"), Path(f"{file}.sums")
        for path, shape in zip(self._files, ((count, words), (count,)), strict=True):
            _lengthen(path, 2 * math.prod(shape))
        self._mapped = np.memmap(self._files[0], np.uint16, "r", shape=(count, words))
        self._rows = self._mapped.view(np.ndarray)  # the same memory, without memmap's overhead
        self._sums = np.memmap(self._files[1], np.uint16, "r", shape=(count,)).view(np.ndarray)

    def get(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows (n, words) and which of them are there, (n,) bool; the others hold anything."""
        found, there = self._rows[rows], self._sound[rows]
        self._give_back(found.nbytes)
        if not there.all():
            sums = self._sums[rows]
            self._sound[rows] = there = (sums != 0) & (sums == self._checksum(found))
        return found[:, : self._used], there

    def put(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Keep rows (n,) with their values (n, words)."""
        whole = np.zeros((len(values), self._words), np.uint16)
        whole[:, : self._used] = values
        sums = self._checksum(whole)
        if not self._files:
            self._rows[rows], self._sums[rows] = whole, sums
            return
        for path, parts in zip(self._files, (whole, sums), strict=True):  # the checksums last
            size = parts[0].nbytes
            with open(path, "r+b") as file:
                for row, part in zip(rows.tolist(), parts, strict=True):
                    file.seek(row * size)
                    file.write(part.tobytes())

    def filled(self) -> np.ndarray:
        """The numbers of the rows that seem to be there."""
        return np.flatnonzero(self._sums)

    def clear(self) -> None:
        """Forget all rows."""
        self._sound[:] = False
        if not self._files:
            self._sums[:] = 0
            return
        with open(self._files[1], "r+b") as sums:
            sums.truncate(0)
            sums.truncate(2 * self.count)

    def _checksum(self, values: np.ndarray) -> np.ndarray:
        """1 to 65,535 for each row, (n,) uint16: 0 stands for a row that is not there."""
        mixed = (values.view(np.uint64) ^ np.uint64(0xA5A5A5A5A5A5A5A5)) @ self._odd
        sums: np.ndarray = (mixed >> np.uint64(32)) % np.uint64(65_535) + np.uint64(1)
        return sums.astype(np.uint16)

    def _give_back(self, read: int) -> None:
        self._touched += read
        if self._touched > TOUCHED and self._mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._mapped._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]
            self._touched = 0


def _lengthen(file: Path, size: int) -> None:
    """Make the file so long, or leave it longer; what was not written reads as zeros."""
    with open(file, "ab") as end:
        if end.tell() < size:
            end.truncate(size)
