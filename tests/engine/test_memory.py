"""Rows of words by number: what was put is got, what is torn is not there, two fill one file, a full disk."""

from __future__ import annotations

import errno
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_engine import memory
from kd_engine.memory import Rows
from tests.engine import tiny


def words(rows: np.ndarray, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**16, (len(rows), width)).astype(np.uint16)


@pytest.fixture(params=["disk", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "rows" if request.param == "disk" else None


@pytest.mark.parametrize("width", [1, 3, 4, 10, 77])
def test_what_was_put_is_got_and_nothing_else_is_there(place: Path | None, width: int) -> None:
    kept = Rows(50, width, place)
    rows = np.array([3, 49, 0, 17])
    put = words(rows, width)
    kept.put(rows, put)
    got, there = kept.get(np.array([0, 1, 3, 17, 49]))
    assert there.tolist() == [True, False, True, True, True]
    np.testing.assert_array_equal(got[there], put[[2, 0, 3, 1]])
    np.testing.assert_array_equal(kept.filled(), [0, 3, 17, 49])
    kept.clear()
    assert not kept.get(rows)[1].any()
    kept.put(rows, put)
    assert kept.get(rows)[1].all()


def test_it_is_there_for_the_next_process(tmp_path: Path) -> None:
    rows, put = np.arange(7), words(np.arange(7), 5)

    def fill() -> None:
        Rows(9, 5, tmp_path / "rows").put(rows, put)

    assert tiny.in_child(fill) == 0
    got, there = Rows(9, 5, tmp_path / "rows").get(np.arange(9))
    assert there.tolist() == [True] * 7 + [False] * 2
    np.testing.assert_array_equal(got[:7], put)


@pytest.mark.parametrize("lives", range(9))
def test_killed_while_writing_leaves_whole_rows_only(tmp_path: Path, lives: int) -> None:
    """At every one of its eight writes: four rows, then four checksums."""
    rows, put = np.arange(4), words(np.arange(4), 6)
    left = [lives]

    class Dying(io.FileIO):
        def write(self, part: Any) -> int:
            if not left[0]:
                tiny.die()
            left[0] -= 1
            return super().write(part)

    def fill() -> None:
        kept = Rows(4, 6, tmp_path / "rows")
        memory.open = Dying  # type: ignore[attr-defined]
        kept.put(rows, put)

    tiny.in_child(fill)
    got, there = Rows(4, 6, tmp_path / "rows").get(rows)
    assert there.tolist() == [row < lives - 4 for row in range(4)]
    np.testing.assert_array_equal(got[there], put[there])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.data())
def test_a_changed_row_is_not_there(seed: int, width: int, data: st.DataObject) -> None:
    kept = Rows(1, width)
    row = np.array([0])
    put = words(row, width, seed)
    kept.put(row, put)
    place = data.draw(st.integers(0, width - 1))
    kept._rows[0, place] ^= np.uint16(data.draw(st.integers(1, 2**16 - 1)))
    assert not kept.get(row)[1].any()


def test_what_was_read_forgotten_and_put_again_is_what_was_put_last(place: Path | None) -> None:
    kept, all_rows = Rows(6, 5, place), np.arange(6)
    for seed in (1, 2):
        put = words(all_rows + seed, 5)
        kept.put(all_rows, put)
        for _ in range(2):  # looked at, and known
            got, there = kept.get(all_rows)
            assert there.all()
            np.testing.assert_array_equal(got, put)
        kept.clear()
        assert not kept.get(all_rows)[1].any()


def test_rows_of_zeros_are_rows(place: Path | None) -> None:
    kept = Rows(3, 4, place)
    kept.put(np.array([1]), np.zeros((1, 4), np.uint16))
    assert kept.get(np.arange(3))[1].tolist() == [False, True, False]


def test_two_fill_one_file_at_once(tmp_path: Path) -> None:
    all_rows = np.arange(200)
    put = words(all_rows, 6)
    one, other = Rows(200, 6, tmp_path / "rows"), Rows(200, 6, tmp_path / "rows")
    for part in np.array_split(np.random.default_rng(1).permutation(200), 10):
        one.put(part, put[part])
        other.put(part[::-1], put[part[::-1]])
    for kept in (one, other):
        got, there = kept.get(all_rows)
        assert there.all()
        np.testing.assert_array_equal(got, put)


def test_files_take_up_what_was_written_only(tmp_path: Path) -> None:
    kept = Rows(1_000_000, 100, tmp_path / "rows")
    kept.put(np.array([999_999]), words(np.zeros(1), 100))
    files = list(tmp_path.iterdir())
    assert sum(file.stat().st_size for file in files) > 200e6
    assert sum(file.stat().st_blocks * 512 for file in files) < 1e6


def test_a_full_disk_is_an_error_and_what_is_there_stays_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Rows(8, 4, tmp_path / "rows")
    first = words(np.arange(2), 4)
    kept.put(np.arange(2), first)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(memory, "open", full, raising=False)
    with pytest.raises(OSError, match="No space"):
        kept.put(np.arange(2, 4), words(np.arange(2), 4, 1))
    got, there = kept.get(np.arange(4))
    assert there.tolist() == [True, True, False, False]
    np.testing.assert_array_equal(got[:2], first)
