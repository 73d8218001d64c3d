"""Rows of 16-bit words by number, on disk or in memory, filled one by one: what a teacher said, kept.

Every row has a checksum beside it, written after it. A row that was half written by a process that was
killed, or by a machine that lost its power, is therefore a row that is not there. Two processes may fill the
same files: both write the same bytes to the same place.
"""

from __future__ import annotations

import mmap
from contextlib import suppress
from pathlib import Path
from typing import IO

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
        self._files: list[IO[bytes]] = []
        if file is None:
            self._rows, self._sums = np.zeros((count, words), np.uint16), np.zeros(count, np.uint16)
            return
        for suffix, size in ((".rows", 2 * count * words), (".sums", 2 * count)):
            self._files.append(_sized(Path(f"{file}{suffix}"), size))
        self._rows = np.memmap(f"{file}.rows", np.uint16, "r", shape=(count, words))
        self._sums = np.memmap(f"{file}.sums", np.uint16, "r", shape=(count,))

    def get(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows (n, words) and which of them are there, (n,) bool; the others hold anything."""
        found, sums = self._rows[rows], self._sums[rows]
        self._give_back(found.nbytes)
        return found[:, : self._used], (sums != 0) & (sums == self._checksum(found))

    def put(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Keep rows (n,) with their values (n, words)."""
        whole = np.zeros((len(values), self._words), np.uint16)
        whole[:, : self._used] = values
        sums = self._checksum(whole)
        if not self._files:
            self._rows[rows], self._sums[rows] = whole, sums
            return
        for file, parts in zip(self._files, (whole, sums), strict=True):  # the checksums last
            size = parts[0].nbytes
            for row, part in zip(rows.tolist(), parts, strict=True):
                file.seek(row * size)
                file.write(part.tobytes())
            file.flush()

    def filled(self) -> np.ndarray:
        """The numbers of the rows that seem to be there."""
        return np.flatnonzero(self._sums)

    def clear(self) -> None:
        """Forget all rows."""
        if not self._files:
            self._sums[:] = 0
            return
        sums = self._files[1]
        sums.truncate(0)
        sums.truncate(2 * self.count)

    def close(self) -> None:
        """Idempotent. What a full disk has refused is lost: it can be worked out again."""
        for file in self._files:
            with suppress(OSError):
                file.close()
        self._files = []

    def _checksum(self, values: np.ndarray) -> np.ndarray:
        """1 to 65,535 for each row, (n,) uint16: 0 stands for a row that is not there."""
        mixed = (values.view(np.uint64) ^ np.uint64(0xA5A5A5A5A5A5A5A5)) @ self._odd
        sums: np.ndarray = (mixed >> np.uint64(32)) % np.uint64(65_535) + np.uint64(1)
        return sums.astype(np.uint16)

    def _give_back(self, read: int) -> None:
        self._touched += read
        if self._touched > TOUCHED and isinstance(self._rows, np.memmap) and hasattr(mmap, "MADV_DONTNEED"):
            self._rows._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]
            self._touched = 0


def _sized(file: Path, size: int) -> IO[bytes]:
    """The file, open for writing, and as long as it must be; what was not written reads as zeros."""
    with open(file, "ab") as end:
        if end.tell() < size:
            end.truncate(size)
    return open(file, "r+b")
