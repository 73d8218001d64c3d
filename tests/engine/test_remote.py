"""The engine in a process of its own: it may die, its parent may die, and nothing is lost; whatever is asked
is answered."""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from kd_engine import child, open_session, remote
from kd_engine import events as e
from kd_engine.commands import Continue, Pause, StepOnce, Stop, to_json
from kd_engine.remote import Answer, Engine, Gone, LocalEngine, Message, Ready, RemoteSession
from kd_engine.store import RunFolder, Store
from kd_engine.worker import Worker, serve
from tests.engine import tiny

PATIENCE_S = 60.0
CRASHING = '''
import os
import threading
from pathlib import Path
from kd_engine.methods import Method
from kd_engine.methods._logits import soft_targets
from kd_engine.methods.kd import KdKnobs

class Crashing(Method):
    """KD that ends its process at the fourth step, as long as a file is there, once the checkpoint of the
    third is on the disk."""
    name = "crashing"
    Knobs = KdKnobs
    calls = 0

    def terms(self, student, teacher, target):
        Crashing.calls += 1
        if Crashing.calls == 4 and Path(os.environ["CRASH"]).exists():
            for thread in threading.enumerate():
                if thread.name == "kd-keeper":
                    thread.join()
            os._exit(3)
        return {"crashing": soft_targets(student.logits, teacher.logits, self.knobs.temperature)}
'''


class Ear:
    """Hears an engine, and forgets nothing."""

    def __init__(self, engine: Engine | LocalEngine) -> None:
        self.engine = engine
        self.heard: list[Message] = []
        self._read = 0

    def until(self, *kinds: type, **values: Any) -> Any:
        """Read on to the first message of such a kind, with such values. No kinds: to the end of a run."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            while self._read < len(self.heard):
                message = self.heard[self._read]
                self._read += 1
                if isinstance(message, kinds or e.ENDS) and _has(message, values):
                    return message
            self.heard += self.engine.messages(timeout=0.2)
        raise AssertionError(f"only heard {self.heard}")

    def answer(self, what: str, **values: Any) -> Answer:
        number = self.engine.ask(what, **values)
        while not (found := [m for m in self.heard if isinstance(m, Answer) and m.id == number]):
            self.heard += self.engine.messages(timeout=PATIENCE_S)
        return found[0]

    def of(self, kind: type) -> list[Any]:
        return [message for message in self.heard if isinstance(message, kind)]

    @property
    def events(self) -> list[e.Event]:
        return self.of(e.Event)


def _has(message: Message, values: dict[str, Any]) -> bool:
    return all(getattr(message, name) == value for name, value in values.items())


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def assert_reaped(pid: int | None) -> None:
    """No zombie: the process is gone, and its end was noticed."""
    assert pid is not None
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


@pytest.fixture(scope="module")
def _engine() -> Iterator[Engine]:
    made = Engine()
    made.start()
    Ear(made).until(Ready)
    yield made
    made.close()


@pytest.fixture
def engine(_engine: Engine) -> Engine:
    """A child process that is shared, and idle."""
    assert _engine.alive
    assert _engine.messages() == []
    return _engine


@pytest.fixture
def ear(engine: Engine) -> Ear:
    return Ear(engine)


@pytest.fixture
def local() -> Iterator[LocalEngine]:
    made = LocalEngine()
    made.start()
    Ear(made).until(Ready)
    yield made
    made.close()


# -- a run in a child --


def test_a_run_in_a_child_is_the_same_run(
    engine: Engine, ear: Ear, undisturbed: RunFolder, teacher: Path, tmp_path: Path
) -> None:
    """Also when it is asked all sorts of questions, some with other settings for the machine."""
    other = tiny.document(teacher, hardware__threads=2)
    engine.run(tiny.document(teacher), tmp_path)
    engine.send(StepOnce())
    ear.until(e.Paused)
    run = ear.of(e.RunStarted)[0].run
    assert ear.answer("describe", recipe=other).values["problems"] == []  # type: ignore[index]
    while_paused = ear.answer("probe", run=run, runs=tmp_path, probe="attention", sample=0)
    assert while_paused.values is not None
    assert Path(while_paused.values["path"]).is_file()
    engine.send(Continue())
    while_running = ear.answer("evaluate", run=run, runs=tmp_path)
    assert while_running.values
    ear.until(e.RunDone)
    path = tmp_path / "student.safetensors"
    after = ear.answer("export", run=run, runs=tmp_path, format="safetensors", path=path)
    assert after.values is not None
    assert path.stat().st_size == after.values["bytes"]
    tiny.assert_same_run(Store(tmp_path).open(run), undisturbed)


def test_messages_come_in_the_order_of_the_log(
    engine: Engine, ear: Ear, teacher: Path, tmp_path: Path
) -> None:
    engine.run(tiny.document(teacher), tmp_path)
    ear.until(e.RunDone)
    logged = Store(tmp_path).open("last").raw_events()
    assert [json.dumps(e.to_json(event)) for event in ear.events] == [
        json.dumps(e.to_json(event)) for event in logged
    ]


@pytest.mark.parametrize(
    ("question", "error"),
    [
        (("descirbe", {}), "no question 'descirbe' (did you mean 'describe'?)."),
        (("describe", {}), "question 'describe': missing a required argument: 'recipe'."),
        (
            ("describe", {"recipe": {}, "mood": 1}),
            "question 'describe': got an unexpected keyword argument 'mood'.",
        ),
        (("evaluate", {"run": "nowhere"}), "no run 'nowhere'"),
        (("probe", {"run": 7, "runs": None, "probe": "attention", "sample": 0}), ""),
        (("export", {"run": "x", "runs": "/", "format": "safetensors", "path": 3}), ""),
    ],
)
def test_a_wrong_question_is_answered_by_an_error(local: LocalEngine, question: Any, error: str) -> None:
    told = Ear(local).answer(question[0], **question[1])
    assert told.values is None
    assert error in told.error
    assert told.error


def test_a_wrong_recipe_is_a_failed_run_with_every_problem(engine: Engine, ear: Ear, tmp_path: Path) -> None:
    engine.run({"data": {"dataset": "digist"}, "student": {"model": "cnn", "widht": 2}}, tmp_path)
    told = ear.until(e.RunFailed)
    assert ear.heard == [told]
    assert (told.error, told.run, told.resumable) == ("recipe", "", False)
    assert "did you mean 'digits'" in told.message
    assert "did you mean 'width'" in told.message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("document", [None, [], "quickstart", {}])
def test_a_recipe_that_is_none_is_a_failed_run(local: LocalEngine, tmp_path: Path, document: Any) -> None:
    local.run(document, tmp_path)
    assert Ear(local).until(e.RunFailed).message


def test_a_run_that_cannot_be_resumed_is_a_failed_run(
    local: LocalEngine, undisturbed: RunFolder, tmp_path: Path
) -> None:
    ear = Ear(local)
    local.resume("nothing", tmp_path)
    assert ear.until(e.RunFailed).error == "store"
    local.resume(undisturbed.folder)
    assert "complete" in ear.until(e.RunFailed).message


# -- stopping in time --


def test_a_stop_sent_right_after_run_is_obeyed(
    engine: Engine, ear: Ear, teacher: Path, tmp_path: Path
) -> None:
    engine.run(tiny.document(teacher, stages__0__epochs=1000), tmp_path)
    engine.send(Stop())
    assert ear.until(e.RunStopped).kept


def test_a_stop_that_comes_too_late_does_not_hit_the_next_run(
    engine: Engine, ear: Ear, teacher: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        engine.run(tiny.document(teacher), tmp_path)
        assert isinstance(ear.until(), e.RunDone)
        engine.send(Stop(keep=False))


def test_a_command_sent_as_soon_as_the_end_is_heard_is_for_the_next_run(
    teacher: Path, tmp_path: Path
) -> None:
    """Sooner than can be: while the end is still being said."""
    ends: list[str] = []
    made = {"run": tiny.document(teacher, stages__0__epochs=1), "runs": str(tmp_path)}

    def tell(text: str) -> None:
        told = json.loads(text)["event"]
        if told in ("RunDone", "RunStopped"):
            ends.append(told)
            worker.read([json.dumps(to_json(Stop()))])
            worker._over = len(ends) == 2

    worker = Worker(tell)
    worker._hear(json.dumps(made))
    worker._hear(json.dumps(made))
    worker.work()
    assert ends == ["RunDone", "RunStopped"]


def test_two_runs_are_made_one_after_the_other(local: LocalEngine, teacher: Path, tmp_path: Path) -> None:
    ear = Ear(local)
    for seed in (1, 2):
        local.run(tiny.document(teacher, seed=seed, stages__0__epochs=1), tmp_path)
    ear.until(e.RunDone), ear.until(e.RunDone)
    started = ear.of(e.RunStarted)
    assert [event.recipe["seed"] for event in started] == [1, 2]
    assert ear.heard.index(started[1]) > ear.heard.index(ear.of(e.RunDone)[0])


# -- the worker hears all sorts of things --


def work_off(*requests: Any) -> list[dict[str, Any]]:
    """What is said to these requests, which then end."""
    said: list[dict[str, Any]] = []
    lines = [request if isinstance(request, str) else json.dumps(request) for request in requests]
    serve(iter(lines), lambda text: said.append(json.loads(text)))
    assert ["ready"] in [list(message) for message in said]
    return [message for message in said if "ready" not in message]


def test_what_is_no_request_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    nonsense = ["", "{", "null", "7", "[]", '"run"', "{}", '{"mood": 1}', "\0"]
    (told,) = work_off(*nonsense, {"ask": "describe", "id": "1", "values": {"recipe": {}}})
    assert told["answer"] == "1"
    assert told["values"]["problems"]
    assert caplog.text.count("not a request") == len(nonsense)


@pytest.mark.parametrize(
    "question", [{"ask": "describe"}, {"ask": None, "id": "1"}, {"ask": "probe", "values": 3}]
)
def test_half_a_question_is_answered(question: Any) -> None:
    (told,) = work_off(question)
    assert told["error"]
    assert told["answer"] == question.get("id", "")


@pytest.mark.parametrize(
    "command",
    [
        {"command": "Dance"},
        {"command": None},
        {"command": {}},
        {"command": "SetKnob"},
        {"command": "Pause", "mood": 1},
    ],
)
def test_a_command_that_is_none_is_refused(command: Any) -> None:
    (told,) = work_off(command)
    assert told["event"] == "Refused"
    assert "no such command" in told["why"]


def test_a_question_leaves_the_number_of_cpu_threads(teacher: Path) -> None:
    before = torch.get_num_threads()
    (told,) = work_off(
        {
            "ask": "describe",
            "id": "1",
            "values": {"recipe": tiny.document(teacher, hardware__threads=before + 1)},
        }
    )
    assert told["values"]["problems"] == []
    assert torch.get_num_threads() == before


def test_a_command_without_a_run_is_ignored() -> None:
    assert work_off(to_json(Stop()), to_json(Pause())) == []


def test_requests_that_end_before_the_run_has_begun_begin_nothing(teacher: Path, tmp_path: Path) -> None:
    assert work_off({"run": tiny.document(teacher), "runs": str(tmp_path)}) == []
    assert list(tmp_path.iterdir()) == []


def test_detached_a_run_is_made_though_the_requests_have_ended(
    undisturbed: RunFolder, teacher: Path, tmp_path: Path
) -> None:
    said = work_off({"detach": True}, {"run": tiny.document(teacher), "runs": str(tmp_path)})
    assert said[-1]["event"] == "RunDone"
    tiny.assert_same_run(Store(tmp_path).open("last"), undisturbed)


@pytest.mark.parametrize("detached", [True, False])
def test_nobody_listening_stops_a_run_that_was_not_detached(
    teacher: Path, tmp_path: Path, detached: bool
) -> None:
    attempts = itertools.count()

    def tell(text: str) -> None:
        if next(attempts) > 8:
            raise BrokenPipeError

    worker = Worker(tell)
    made = {"run": tiny.document(teacher), "runs": str(tmp_path)}
    hold = threading.Event()

    def lines() -> Iterator[str]:
        if detached:
            yield json.dumps({"detach": True})
        yield json.dumps(made)
        hold.wait(PATIENCE_S)

    reader = threading.Thread(target=worker.read, args=(lines(),))
    reader.start()
    work = threading.Thread(target=worker.work)
    work.start()
    wait_for(lambda: [run.status for run in Store(tmp_path).runs()] == ["done" if detached else "stopped"])
    hold.set()
    reader.join()
    work.join()
    assert next(attempts) == 10  # after the first failure nothing more was tried


# -- death --


def test_a_child_that_dies_is_told_and_its_run_goes_on_in_the_next(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It crashes by itself, then it is killed, then it is let be."""
    plugins, flag, runs = tmp_path / "plugins" / "methods", tmp_path / "crash", tmp_path / "runs"
    plugins.mkdir(parents=True)
    (plugins / "crashing.py").write_text(CRASHING)
    monkeypatch.setenv("KD_PLUGINS", str(plugins.parent))
    monkeypatch.setenv("CRASH", str(flag))
    made = tiny.document(teacher, stages__0__methods=[{"method": "crashing"}])
    flag.touch()

    engine = Engine()
    ear = Ear(engine)
    engine.start()
    first = engine.pid
    engine.run(made, runs)
    gone, died = ear.until(Gone), ear.of(e.RunFailed)[0]
    run = ear.of(e.RunStarted)[0].run
    assert (died.run, died.error, died.resumable, died.step) == (run, "engine_died", True, 3)
    assert died.message == gone.reason == "The engine's process ended unexpectedly (exit code 3)."
    assert ear.heard[-2:] == [died, gone]
    assert_reaped(first)
    assert not engine.alive
    (info,) = Store(runs).runs()
    assert (info.status, info.resumable) == ("interrupted", True)

    engine.run(made, runs)  # nobody is there
    assert ear.until(e.RunFailed).error == "engine_died"
    ear.until(Gone)

    flag.unlink()
    engine.start()
    assert engine.pid != first
    engine.resume(run, runs)
    engine.send(StepOnce())
    ear.until(e.Paused)
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGKILL)
    died = ear.until(e.RunFailed)
    assert died.message == "The engine's process ended unexpectedly (killed by signal 9)."
    assert (died.run, died.step) == (run, 4)
    ear.until(Gone)

    assert tiny.in_child(lambda: _finish(run, runs)) == 0
    whole = tmp_path / "whole"
    assert tiny.in_child(lambda: tiny.run(tiny.Recipe.from_document(made), whole)) == 0
    tiny.assert_same_run(Store(runs).open(run), Store(whole).open("last"))
    engine.close()


def _finish(run: str, runs: Path) -> None:
    from kd_engine.session import Session

    tiny.finish(Session.resume(run, runs))


def test_a_run_that_dies_before_it_has_a_folder_is_not_resumable() -> None:
    process: Any = None
    dead = child.Child(process)
    dead.begin(resumable=False)
    told = dead.died("It died.")
    assert (told.run, told.resumable, told.hint) == ("", False, "Start the run again.")
    dead.begin(resumable=True)
    assert dead.died("It died.").resumable


def test_a_child_whose_parent_is_killed_stops_and_keeps(teacher: Path, tmp_path: Path) -> None:
    def parent() -> None:
        engine = Engine()
        engine.start()
        engine.run(tiny.document(teacher, stages__0__epochs=1000), tmp_path)
        Ear(engine).until(e.EpochDone)
        tiny.die()

    assert tiny.in_child(parent) == signal.SIGKILL
    wait_for(lambda: not RunFolder(Store(tmp_path).open("last").folder).locked())
    run = Store(tmp_path).open("last")
    assert (run.status(), run.resumable()) == ("stopped", True)
    assert isinstance(list(run.events())[-1], e.RunStopped)


def test_a_detached_child_trains_on_when_its_parent_is_gone(
    undisturbed: RunFolder, teacher: Path, tmp_path: Path
) -> None:
    def parent() -> None:
        engine = Engine()
        engine.start()
        engine.run(tiny.document(teacher), tmp_path)
        engine.send(Pause())
        Ear(engine).until(e.Paused)
        engine.detach()
        engine.send(Continue())
        engine.leave()
        engine.close()  # it is nobody's any more: nothing happens
        tiny.die()

    assert tiny.in_child(parent) == signal.SIGKILL
    wait_for(lambda: Store(tmp_path).open("last").status() == "done")
    tiny.assert_same_run(Store(tmp_path).open("last"), undisturbed)


def test_closing_a_session_keeps_its_run_and_leaves_no_process_and_no_thread(
    teacher: Path, tmp_path: Path, undisturbed: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(threading.enumerate())
    session = open_session(tiny.recipe(teacher), tmp_path)
    assert isinstance(session, RemoteSession)
    pid = session.pid
    stream = iter(session)
    with closing(stream):  # type: ignore[type-var]
        tiny.until(session, e.StageStarted)
    assert_reaped(pid)
    assert list(session) == []
    assert set(threading.enumerate()) <= before
    run = Store(tmp_path).open("last")
    assert (run.status(), run.resumable()) == ("stopped", True)

    monkeypatch.setattr(remote, "Engine", LocalEngine)  # a thread, to save the seconds of another process
    again = RemoteSession.resume(run.name, tmp_path)
    tiny.finish(again)
    assert list(again) == []
    again.send(Pause())
    tiny.assert_same_run(run, undisturbed)


def test_a_child_that_does_not_answer_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any process that reads nothing will do."""
    monkeypatch.setattr(remote, "spawn", lambda: _sleeper())
    engine = Engine()
    engine.start()
    pid = engine.pid
    engine.start()
    assert engine.pid == pid  # it lives
    engine.run({}, None)
    engine.close(timeout=0.1)
    engine.close()
    assert_reaped(pid)
    assert engine.messages() == []  # it was wanted so


def _sleeper() -> Any:
    import subprocess

    return subprocess.Popen(
        ["sleep", "60"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )


def test_an_engine_that_was_not_started_says_so(tmp_path: Path) -> None:
    for engine in (Engine(), LocalEngine()):
        engine.ask("describe", recipe={})
        engine.send(Pause())
        engine.run({}, tmp_path)
        ear = Ear(engine)
        for _ in range(3):
            ear.until(Gone)
        assert not engine.alive
        engine.close()


def test_a_local_engine_can_be_started_again(local: LocalEngine, teacher: Path, tmp_path: Path) -> None:
    local.run(tiny.document(teacher, stages__0__epochs=1000), tmp_path)
    Ear(local).until(e.EpochDone)
    local.close()
    assert Store(tmp_path).open("last").status() == "stopped"
    local.start()
    Ear(local).until(Ready)
    assert Ear(local).answer("describe", recipe={}).values is not None


def test_a_session_is_opened_here_or_in_a_child(teacher: Path, tmp_path: Path) -> None:
    session = open_session(tiny.recipe(teacher), tmp_path, in_process=True)
    tiny.finish(session)
    assert torch.get_num_threads() >= 1


# -- the child's log --


def test_the_childs_log_is_begun_anew_when_it_has_grown_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KD_CACHE", str(tmp_path))
    monkeypatch.setattr(child, "LOG_BYTES", 100)
    file = tmp_path / "engine.log"
    for _ in range(3):
        log = child._log_file()
        assert log is not None
        log.close()
    assert file.read_text().count("--") == 3
    file.write_text("x" * 101)
    log = child._log_file()
    assert log is not None
    log.close()
    assert file.read_text().count("--") == 1


def test_without_a_place_for_the_log_the_child_starts_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KD_CACHE", str(tmp_path / "file"))
    assert child._log_file() is None
