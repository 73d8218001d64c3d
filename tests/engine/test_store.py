"""The folder of runs: whole files, torn lines, locks, names, foreign folders; disks that are full or cannot
be written."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from kd_engine import disk, store
from kd_engine import events as e
from kd_engine.commands import StepOnce, Stop
from kd_engine.disk import replacing
from kd_engine.errors import StoreError
from kd_engine.session import Session
from kd_engine.store import EVENTS, RECIPE, RESUME, SUMMARY, RunFolder, Store
from tests.engine import tiny
from tests.engine.test_resume import Blows, assert_one_story

pytestmark = pytest.mark.usefixtures("quick")

DOCUMENT = {"version": 1, "name": "Of owls & Ünïcode"}


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunFolder]:
    made = Store(tmp_path).create(DOCUMENT)
    yield made
    made.close()


def notice(message: str) -> e.Event:
    return e.Notice(level="info", code="", message=message)


def messages(run: RunFolder) -> list[str]:
    return [event.message for event in tiny.of(e.Notice, run.events())]


def ended(runs: Path, *names: str) -> None:
    """Runs that nobody trains."""
    for name in names:
        made = Store(runs).create({"name": name})
        made.close()
        os.rename(made.folder, runs / name)


# -- runs by name --


def test_a_new_run_is_locked_and_has_its_recipe(run: RunFolder) -> None:
    assert run.name.startswith(time.strftime("%Y-%m-%d") + "_of-owls-n-code_")
    assert run.recipe() == DOCUMENT
    assert (run.locked(), run.status(), run.resumable()) == (True, "running", False)
    run.close()
    assert (run.locked(), run.status(), run.resumable()) == (False, "interrupted", True)


@pytest.mark.parametrize("name", ["", "///", "数字", "x" * 500, "a/../../b", None, 7])
def test_any_name_makes_a_folder_in_the_store(tmp_path: Path, name: Any) -> None:
    with closing(Store(tmp_path).create({"name": name})) as made:
        assert made.folder.parent == tmp_path
        assert made.folder.is_dir()


def test_runs_are_opened_by_name_part_last_and_path(tmp_path: Path) -> None:
    ended(tmp_path, "2026-01-01_owls_aaaa", "2026-01-02_owls_bbbb", "2026-01-02_owls_bbbb_2")
    found = Store(tmp_path)
    assert found.open("aaaa").name == "2026-01-01_owls_aaaa"
    assert found.open("2026-01-02_owls_bbbb").name == "2026-01-02_owls_bbbb"  # whole, though part of another
    assert found.open("last").name == "2026-01-02_owls_bbbb_2"
    assert (
        Store(tmp_path / "elsewhere").open(tmp_path / "2026-01-01_owls_aaaa").name == "2026-01-01_owls_aaaa"
    )


def test_an_ambiguous_name_lists_what_it_fits(tmp_path: Path) -> None:
    ended(tmp_path, "owls_a", "owls_b")
    with pytest.raises(StoreError, match=r"'owls' fits 2 runs: owls_b, owls_a\. Say more of the name"):
        Store(tmp_path).open("owls")


def test_an_unknown_name_says_what_is_near(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="It has no runs yet"):
        Store(tmp_path).open("last")
    ended(tmp_path, "2026-01-01_owls_aaaa")
    with pytest.raises(StoreError, match=r"did you mean '2026-01-01_owls_aaaa'\?\).*`kd runs` lists them"):
        Store(tmp_path).open("2026-01-01_owl_aaab")


# -- the table of runs --


def test_the_table_passes_over_what_is_no_run(tmp_path: Path) -> None:
    ended(tmp_path, "a run")
    (tmp_path / "notes.txt").write_text("not a folder")
    (tmp_path / "empty").mkdir()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "data.csv").write_text("1,2")
    for name, content in {"broken": "{", "list": "[]", "binary": "\0"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / RECIPE).write_text(content)
    assert [info.name for info in Store(tmp_path).runs()] == ["a run"]
    with pytest.raises(StoreError, match=r"not a run: no readable recipe\.json"):
        Store(tmp_path).open(tmp_path / "broken").recipe()


def test_the_table_survives_a_broken_summary(tmp_path: Path) -> None:
    ended(tmp_path, "one")
    (tmp_path / "one" / SUMMARY).write_text('{"status": "do')
    (info,) = Store(tmp_path).runs()
    assert (info.status, info.summary, info.resumable) == ("interrupted", {}, True)


def test_the_table_survives_a_run_that_vanishes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended(tmp_path, "one", "two")
    folders = Store._folders

    def vanish(self: Store) -> list[Path]:
        found = folders(self)
        shutil.rmtree(found[0])
        return found

    monkeypatch.setattr(Store, "_folders", vanish)
    assert [info.name for info in Store(tmp_path).runs()] == ["one"]


def test_one_folder_that_cannot_be_looked_into_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended(tmp_path, "one", "two")
    stat = Path.stat

    def forbidden(path: Path, **more: Any) -> os.stat_result:
        if path.parent.name == "two":
            raise PermissionError(errno.EACCES, "Permission denied")
        return stat(path, **more)

    monkeypatch.setattr(Path, "stat", forbidden)
    assert [info.name for info in Store(tmp_path).runs()] == ["one"]


def test_the_table_is_newest_first_and_a_missing_folder_is_empty(tmp_path: Path) -> None:
    assert Store(tmp_path / "none").runs() == []
    ended(tmp_path, "b", "a", "c")
    for i, name in enumerate(("a", "c", "b")):
        os.utime(tmp_path / name / RECIPE, (1000 + i, 1000 + i))
    assert [info.name for info in Store(tmp_path).runs()] == ["b", "c", "a"]


def test_a_store_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="A file is in the way: choose another folder"):
        Store(tmp_path / "file").create(DOCUMENT)
    with pytest.raises(StoreError, match="cannot be read"):
        Store(tmp_path / "file").runs()


@pytest.mark.parametrize(
    ("status", "checkpoint", "resumable"),
    [
        ("stopped", True, True),
        ("stopped", False, True),  # from its beginning
        ("interrupted", False, True),
        ("failed", True, True),
        ("failed", False, False),  # it would fail again
        ("done", True, False),
    ],
)
def test_which_runs_can_go_on(run: RunFolder, status: str, checkpoint: bool, resumable: bool) -> None:
    run.write_json(SUMMARY, {"status": status})
    if checkpoint:
        run.path(RESUME).write_bytes(b"")
    run.close()
    info = Store(run.folder.parent).info(run)
    assert info is not None
    assert (info.status, info.resumable) == (status, resumable)
    assert (run.status(), run.resumable()) == (status, resumable)


def test_a_recipe_from_a_newer_version_is_refused_in_words(run: RunFolder) -> None:
    run.write_json(RECIPE, {**DOCUMENT, "version": 7})
    with pytest.raises(StoreError) as told:
        run.recipe()
    assert str(told.value) == (
        f"{run.name}: made by a newer version of kd-studio (recipe version 7, this one reads 1). "
        "Update kd-studio to open it; nothing in it was changed."
    )
    assert [info.name for info in Store(run.folder.parent).runs()] == [run.name]  # it is listed all the same


# -- locks --


def test_any_thread_may_let_go_of_a_run(run: RunFolder) -> None:
    closer = threading.Thread(target=run.close)
    closer.start()
    closer.join()
    assert not RunFolder(run.folder).locked()


def test_who_only_looks_does_not_keep_a_run_from_being_trained(run: RunFolder) -> None:
    run.close()
    looking = threading.Event()

    def look() -> None:
        while not looking.is_set():
            RunFolder(run.folder).locked()

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(50):
            mine = RunFolder(run.folder)
            mine.lock()
            mine.close()
    finally:
        looking.set()
        for looker in lookers:
            looker.join()


def test_a_dead_process_holds_no_lock(tmp_path: Path) -> None:
    tiny.in_child(lambda: (Store(tmp_path).create(DOCUMENT), tiny.die()))
    (info,) = Store(tmp_path).runs()
    assert info.status == "interrupted"


@pytest.mark.parametrize(("status", "seconds"), [("interrupted", None), ("stopped", 3.5), ("done", 3.5)])
def test_a_summary_from_before_a_kill_says_no_time(
    tmp_path: Path, status: str, seconds: float | None
) -> None:
    with closing(Store(tmp_path).create(DOCUMENT)) as run:
        run.write_json(SUMMARY, {"status": status, "seconds": 3.5})
    (info,) = Store(tmp_path).runs()
    assert (info.status, info.seconds) == (status, seconds)


def test_a_copy_that_cannot_be_written_is_not_running(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.close()

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(store.FileLock, "acquire", refuse)
    assert not RunFolder(run.folder).locked()
    with pytest.raises(StoreError, match="Choose a folder that can be written"):
        RunFolder(run.folder).lock()


def test_a_run_that_is_going_is_not_deleted(run: RunFolder) -> None:
    with pytest.raises(StoreError, match="a process is training this run"):
        RunFolder(run.folder).delete()
    assert run.recipe() == DOCUMENT
    run.close()
    RunFolder(run.folder).delete()
    assert not run.folder.exists()


def test_who_looks_meanwhile_does_not_hinder_a_deletion(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking whether a run is going makes a lock's file anew, which may come between the last removal of a
    file and that of the folder."""
    run.close()
    rmdir, looks = os.rmdir, [2]

    def look_first(path: Any, *more: Any, **where: Any) -> None:
        if looks[0]:
            looks[0] -= 1
            (run.folder / ".lock").touch()
        rmdir(path, *more, **where)

    monkeypatch.setattr(os, "rmdir", look_first)
    RunFolder(run.folder).delete()
    assert not run.folder.exists()
    assert looks == [0]


# -- the log --


def test_events_come_back_as_they_were_told(run: RunFolder) -> None:
    told = [
        notice("first"),
        e.Paused(step=3, why="nan"),
        e.Evaluated(student="s", weights="last", metrics={}),
    ]
    for event in told:
        run.append(event)
    assert list(run.events()) == told
    assert RunFolder(run.folder).path(EVENTS).read_bytes().count(b"\n") == 3


@pytest.mark.parametrize("cut", [1, 10, -1])
def test_a_torn_last_line_is_passed_over_and_ended_by_the_next(run: RunFolder, cut: int) -> None:
    run.append(notice("whole"))
    run.append(notice("torn"))
    run.close()
    log = run.path(EVENTS)
    first, second, _ = log.read_bytes().split(b"\n")
    log.write_bytes(first + b"\n" + second[:cut])
    assert messages(run) == ["whole"]
    run.append(notice("after"))
    assert messages(run) == ["whole", "after"]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"[]",
        b"3",
        b'{"event": "Fancy", "step": 1}',
        b'{"event": "Paused"}',
        b'{"event": {}}',
        b"\xff",
    ],
)
def test_a_line_that_tells_nothing_is_passed_over(run: RunFolder, line: bytes) -> None:
    run.append(notice("before"))
    with open(run.path(EVENTS), "ab") as log:
        log.write(line + b"\n")
    run.append(notice("after"))
    assert messages(run) == ["before", "after"]


def test_what_json_writes_and_a_stricter_reader_refuses_is_read(run: RunFolder) -> None:
    told = [notice("half a surrogate \ud800"), e.KnobChanged(step=1, path="p", old=float("inf"), new=1e-320)]
    for event in told:
        run.append(event)
    assert list(run.events()) == told


def test_an_event_is_read_into_values_of_its_own() -> None:
    told = e.to_json(notice("hello"))
    event = e.from_json(told)
    told["message"] = "other"
    assert e.to_json(event)["message"] == "hello"  # type: ignore[arg-type]


def test_fields_of_a_newer_version_are_dropped(run: RunFolder) -> None:
    newer = {**e.to_json(notice("hello")), "mood": "good"}
    run.path(EVENTS).write_text(json.dumps(newer) + "\n")
    assert messages(run) == ["hello"]


def test_a_run_without_a_log_has_no_events(run: RunFolder) -> None:
    assert list(run.events()) == []


def test_half_an_event_does_not_take_the_next_one_with_it(run: RunFolder) -> None:
    """A disk with room for ten more bytes, and then for all again."""
    run.append(notice("before"))
    handle = run._log._file
    assert handle is not None

    class Full:
        def write(self, line: bytes) -> int:
            return handle.write(line[:10])

        def close(self) -> None:
            handle.close()

    run._log._file = Full()  # type: ignore[assignment]
    with pytest.raises(StoreError, match=r"No space left on device\. Free some space; everything written"):
        run.append(notice("lost"))
    run.append(notice("after"))
    assert messages(run) == ["before", "after"]


def test_what_a_resume_superseded_does_not_hold(run: RunFolder) -> None:
    def epoch(number: int) -> e.Event:
        return e.EpochDone(
            stage=0, epoch=number, step=3 * number, student="s", train={}, validation={}, best=True, seconds=0
        )

    def saved(number: int) -> e.Event:
        return e.CheckpointSaved(stage=0, epoch=number, step=3 * number, path="", bytes=0, ms=0)

    def change(step: int) -> e.Event:
        return e.KnobChanged(step=step, path="p", old=0, new=step)

    again = e.RunResumed(run="", folder="", recipe={}, environment={}, stage=0, epoch=1, step=3)
    first = [notice("hello"), change(3), epoch(1), saved(1)]
    undone = [change(3), change(4), epoch(2), saved(2), e.Evaluated(student="s", weights="last", metrics={})]
    ends = [e.RunFailed(run="", error="store", message=""), e.RunStopped(run="", step=9, kept=True)]
    after = [again, change(3), epoch(2)]
    for event in (*first, *undone, *ends, *after):
        run.append(event)
    assert list(run.events()) == [*first, *after]
    assert len(list(run.raw_events())) == 14


# -- files are whole --


def test_a_failed_write_leaves_the_old_file_and_no_other(run: RunFolder) -> None:
    run.write_json("a.json", {"old": 1})

    def half(path: Path) -> None:
        path.write_text("{")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StoreError, match="No space left on device"):
        run.write("a.json", half)
    assert run.read_json("a.json") == {"old": 1}
    assert sorted(path.name for path in run.folder.iterdir()) == [store.LOCK, "a.json", RECIPE]


def test_a_file_is_synced_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    sync, replace = disk.sync, os.replace
    monkeypatch.setattr(disk, "sync", lambda path: (order.append(path.name), sync(path)))
    monkeypatch.setattr(disk.os, "replace", lambda *both: (order.append("rename"), replace(*both)))
    with replacing(tmp_path / "file") as temporary:
        temporary.write_text("x")
    assert order == [".file.tmp", "rename", tmp_path.name]


def test_a_folder_that_somebody_removed_is_not_made_again(run: RunFolder) -> None:
    shutil.rmtree(run.folder)
    with pytest.raises(StoreError, match="the run's folder is gone"):
        run.write_json("a.json", {})
    assert not run.folder.exists()


def test_a_store_that_cannot_hold_a_recipe_keeps_no_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk.os, "replace", full)
    with pytest.raises(StoreError, match="Free some space"):
        Store(tmp_path).create(DOCUMENT)
    assert list(tmp_path.iterdir()) == []


# -- a run on a disk that refuses --


def refuse(number: int) -> Callable[[], None]:
    def strike() -> None:
        raise OSError(number, os.strerror(number))

    return strike


class Full(Blows):
    """From that blow on nothing can be written any more."""

    def falls(self) -> bool:
        self.made += 1
        return self.made >= self.at


def test_runs_fail_in_words_whenever_the_disk_is_full_and_can_go_on(
    undisturbed: RunFolder, teacher: Path, tmp_path: Path
) -> None:
    for blow in (1, 2, 5, 12, 17, 23, 31, 38, 44):
        runs = tmp_path / str(blow)
        with pytest.MonkeyPatch.context() as patch:
            Full(blow, refuse(errno.ENOSPC)).install(patch)
            told = list(Session(tiny.recipe(teacher), runs))
        assert isinstance(told[-1], e.RunFailed), blow
        assert told[-1].error == "store"
        assert told[-1].message.endswith("cannot be written: No space left on device.")
        assert told[-1].hint == "Free some space; everything written before is intact."
        known = Store(runs).runs()
        assert len(known) == (blow > 2)
        for info in known:
            assert not RunFolder(info.folder).locked()
            assert RunFolder(info.folder).path(RESUME).exists() is told[-1].resumable
            session = Session.resume(info.folder)
            tiny.finish(session)
            tiny.assert_same_run(tiny.folder(session), undisturbed)
            assert_one_story(tiny.folder(session))


def test_a_disk_that_is_full_when_the_run_is_stopped_is_told(teacher: Path, tmp_path: Path) -> None:
    session = Session(tiny.recipe(teacher), tmp_path)
    session.send(StepOnce())
    tiny.until(session, e.Paused)
    session.send(Stop())
    with pytest.MonkeyPatch.context() as patch:
        Full(1, refuse(errno.ENOSPC)).install(patch)
        told = list(session)
    assert [type(event) for event in told] == [e.RunFailed]
    assert told[0].resumable  # type: ignore[attr-defined]
    assert not RunFolder(tiny.folder(session).folder).locked()


def test_a_short_shortage_is_written_down_as_a_failure(teacher: Path, tmp_path: Path) -> None:
    """One write fails, and the next ones do not: the store knows that the run failed."""
    with pytest.MonkeyPatch.context() as patch:
        Blows(20, refuse(errno.EDQUOT)).install(patch)
        session = Session(tiny.recipe(teacher), tmp_path)
        told = list(session)
    run = tiny.folder(session)
    end = told[-1]
    assert isinstance(end, e.RunFailed)
    # the blow may fall before the first checkpoint
    assert (run.status(), run.resumable()) == ("failed", end.resumable)
    assert list(run.events())[-1] == end


def test_a_folder_that_cannot_be_written_is_told(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: refuse(errno.EROFS)())
    (told,) = Session(tiny.recipe(teacher), tmp_path / "runs")
    assert isinstance(told, e.RunFailed)
    assert (told.run, told.error, told.resumable) == ("", "store", False)
    assert told.message == f"{tmp_path / 'runs'}: cannot be written: Read-only file system."
    assert told.hint.startswith("Choose a folder that can be written")


def test_torch_itself_never_writes_to_the_disk(teacher: Path, tmp_path: Path) -> None:
    """It tells of a full disk in a RuntimeError that does not say so. The limit of a file's size is real."""
    resource = pytest.importorskip("resource")

    def work() -> None:
        session = Session(tiny.recipe(teacher, student__width=64), tmp_path)
        tiny.until(session, e.StageStarted)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        told = list(session)[-1]
        assert isinstance(told, e.RunFailed)
        assert (told.error, "File too large" in told.message) == ("store", True), told

    assert tiny.in_child(work) == 0


def test_a_run_whose_folder_is_removed_ends_and_leaves_nothing(teacher: Path, tmp_path: Path) -> None:
    session = Session(tiny.recipe(teacher), tmp_path)
    tiny.until(session, e.StageStarted)
    shutil.rmtree(tiny.folder(session).folder)
    told = list(session)[-1]
    assert isinstance(told, e.RunFailed)
    assert (told.error, told.resumable) == ("store", False)
    assert list(tmp_path.iterdir()) == []
