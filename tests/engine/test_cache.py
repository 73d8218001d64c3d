"""The shelf of teachers' answers: what is kept, what makes room, what is in use; and `kd cache`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kd_engine.cache import FACTS, Kept, Place, Shelf, key_of
from kd_engine.cli import main
from tests.engine import tiny

KB = 4096  # a block of the disk


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    monkeypatch.setenv("KD_CACHE", str(tmp_path))
    return Shelf()


def fill(shelf: Shelf, key: str, blocks: int, used: float) -> Path:
    """An entry of so many blocks beside its facts, used then, by nobody now."""
    place = shelf.open(key, {"teacher": key, "samples": 3})
    (place.folder / "logits.rows").write_bytes(os.urandom(blocks * KB))
    place.close()
    os.utime(place.folder / FACTS, (used, used))
    return place.folder


def keys(shelf: Shelf) -> list[str]:
    return [kept.key for kept in shelf.kept()]


def test_most_recently_used_first_with_what_it_takes_up(shelf: Shelf) -> None:
    fill(shelf, "old", 2, 1000)
    fill(shelf, "new", 5, 2000)
    new, old = shelf.kept()
    assert (new.key, old.key, new.about["teacher"], new.busy) == ("new", "old", "new", False)
    assert (new.bytes, old.bytes) == (6 * KB, 3 * KB)
    assert shelf.bytes() == 9 * KB


def test_least_recently_used_ones_make_room_and_no_more_than_needed(shelf: Shelf) -> None:
    for n, key in enumerate("abcd"):
        fill(shelf, key, 4, 1000 + n)
    assert shelf.make_room(3 * KB, 20 * KB, "mine")
    assert keys(shelf) == ["d", "c", "b"]
    assert shelf.make_room(20 * KB, 20 * KB, "mine")
    assert keys(shelf) == []


def test_what_is_in_use_stays_and_where_that_leaves_no_room_nothing_is_removed(shelf: Shelf) -> None:
    fill(shelf, "idle", 4, 1000)
    busy = shelf.open("busy", {})
    (busy.folder / "logits.rows").write_bytes(os.urandom(8 * KB))
    assert not shelf.make_room(15 * KB, 20 * KB, "mine")
    assert set(keys(shelf)) == {"idle", "busy"}
    assert shelf.clear() == 5 * KB
    assert keys(shelf) == ["busy"]
    busy.close()
    busy.close()
    assert shelf.clear() > 0
    assert keys(shelf) == []


def test_ones_own_entry_is_not_what_makes_room_for_it(shelf: Shelf) -> None:
    fill(shelf, "mine", 4, 1000)
    assert shelf.make_room(4 * KB, 10 * KB, "mine")
    assert keys(shelf) == ["mine"]


def test_several_can_use_one_entry(shelf: Shelf) -> None:
    places = [shelf.open("shared", {}) for _ in range(3)]
    for place in places:
        assert shelf.kept()[0].busy
        place.close()
    assert not shelf.kept()[0].busy


def test_a_dead_process_uses_nothing(shelf: Shelf) -> None:
    def use_and_die() -> None:
        shelf.open("left", {})
        tiny.die()

    tiny.in_child(use_and_die)
    assert list((shelf.root / "left").glob("user-*.lock"))
    assert not shelf.kept()[0].busy
    assert shelf.clear() > 0


def test_what_is_not_ours_is_neither_listed_nor_removed(shelf: Shelf) -> None:
    (shelf.root / "photos").mkdir(parents=True)
    (shelf.root / "photos" / "cat.png").write_bytes(b"x")
    (shelf.root / "file").write_text("x")
    assert shelf.kept() == []
    assert shelf.clear() == 0
    assert (shelf.root / "photos" / "cat.png").exists()


def test_keys_tell_apart_all_that_answers_depend_on() -> None:
    assert key_of("a", 1) == key_of("a", 1)
    assert len({key_of("a", 1), key_of("a", 2), key_of("a1"), key_of(("a", 1)), key_of()}) == 5


def test_a_place_keeps_its_folder_until_it_is_closed(tmp_path: Path) -> None:
    place = Place(tmp_path)
    other = Place(tmp_path)
    assert len(list(tmp_path.glob("user-*.lock"))) == 2
    place.close()
    assert len(list(tmp_path.glob("user-*.lock"))) == 1
    other.close()


# -- the command --


Call = Callable[..., int]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Call:
    """`kd cache` with such words: its exit code."""

    def run(*words: str) -> int:
        monkeypatch.setattr("sys.argv", ["kd", "cache", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    return run


def test_the_command_lists_what_is_kept(shelf: Shelf, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call() == 0
    assert "Nothing is kept" in capsys.readouterr().out
    fill(shelf, "aaaa", 2, 1000)
    assert call() == 0
    told = capsys.readouterr().out
    assert all(word in told for word in ("aaaa", "12.3 kB", "teacher", "hardware.cache_mb"))
    assert call("--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert Kept(**row).key == "aaaa"


def test_the_command_clears_all_or_what_is_named(
    shelf: Shelf, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    for key in ("aaaa", "bbbb", "cccc"):
        fill(shelf, key, 1, 1000)
    assert call("--clear", "bbbb") == 0
    assert set(keys(shelf)) == {"aaaa", "cccc"}
    assert call("--clear") == 0
    assert "Freed 16.4 kB" in capsys.readouterr().out
    assert keys(shelf) == []


def test_the_command_knows_what_is_not_kept(
    shelf: Shelf, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(shelf, "aaaa", 1, 1000)
    assert call("--clear", "aaab") == 2
    assert "did you mean 'aaaa'" in capsys.readouterr().err
    assert keys(shelf) == ["aaaa"]
