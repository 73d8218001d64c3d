"""An engine in a child process: the same events and commands, and nothing here imports torch.

The child (`python -m kd_engine.worker`) speaks JSON, one object a line: requests on its standard input,
messages on its standard output. A crash or a kill of the child is a `RunFailed` that says so; the store
stays resumable. When this process ends without a word, the child stops its run and keeps it; after `detach`
it trains on.
"""

from __future__ import annotations

import itertools
import json
import queue
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd_engine import commands, events
from kd_engine.child import Child, spawn
from kd_engine.commands import Command
from kd_engine.errors import EngineDied
from kd_engine.events import Event, RunFailed

if TYPE_CHECKING:
    from kd_engine.recipe import Recipe
    from kd_engine.session import Session


@dataclass(frozen=True)
class Ready:
    """The engine stands and has imported what it needs. catalog: see kd_engine.catalog, as JSON."""

    catalog: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """To the question with this id: values, or an error with the way out."""

    id: str
    values: dict[str, Any] | None
    error: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Gone:
    """The child ended. `start()` makes a new one."""

    reason: str


Message = Event | Ready | Answer | Gone


class _Requests:
    """What both engines share: requests go out through `_write`, messages come in by a queue."""

    def __init__(self) -> None:
        self._inbox: queue.Queue[Message] = queue.Queue()
        self._numbers = itertools.count(1)

    def run(self, document: dict[str, Any], runs: Path | str | None = None) -> None:
        """Start a run of a recipe document. What is wrong with it comes back as a RunFailed."""
        self._begin({"run": document, "runs": _text(runs)})

    def resume(self, run: str | Path, runs: Path | str | None = None) -> None:
        """Go on with a stored run."""
        self._begin({"resume": str(run), "runs": _text(runs)})

    def send(self, command: Command) -> None:
        """A command for the run that is going, or that was asked for last; without one it is ignored."""
        self._write(commands.to_json(command))

    def ask(self, what: str, **values: Any) -> str:
        """A question (see kd_engine.answers): its `Answer` will have the id that is returned."""
        number = str(next(self._numbers))
        self._write({"ask": what, "id": number, "values": _plain(values)})
        return number

    def messages(self, timeout: float = 0.0) -> list[Message]:
        """All that has arrived, after waiting up to `timeout` seconds for the first."""
        found: list[Message] = []
        try:
            found.append(self._inbox.get(timeout=timeout) if timeout > 0 else self._inbox.get_nowait())
            while True:
                found.append(self._inbox.get_nowait())
        except queue.Empty:
            return found

    def _begin(self, request: dict[str, Any]) -> None:
        self._write(request)

    def _write(self, request: dict[str, Any]) -> None:
        raise NotImplementedError(type(self))


class Engine(_Requests):
    """A child process that trains, and answers questions. All calls are thread-safe; none but `close` waits
    for the child's work."""

    def __init__(self) -> None:
        super().__init__()
        self._child: Child | None = None  # None as soon as its end was told
        self._lock = threading.Lock()

    @property
    def alive(self) -> bool:
        child = self._child
        return child is not None and child.process.poll() is None

    @property
    def pid(self) -> int | None:
        """The child's process id, while there is one."""
        child = self._child
        return child.process.pid if child is not None else None

    def start(self) -> None:
        """Start the child, unless it lives. `Ready` follows some seconds later."""
        with self._lock:
            if not self.alive:
                self._child = child = Child(spawn())
                listen = threading.Thread(
                    target=self._listen, args=(child,), name="kd-engine-listener", daemon=True
                )
                child.listener = listen
                listen.start()

    def detach(self) -> None:
        """Let the child finish its run when this process ends; it then ends itself."""
        with self._lock:
            if self._child is not None:
                self._child.detached = True
        self._write({"detach": True})

    def close(self, timeout: float = 10.0) -> None:
        """End the child: a run that is going is stopped and kept. A detached one is left alone. Idempotent.

        timeout: seconds after which a child that does not end is killed; its run is resumable all the same.
        """
        child = self._dismiss()
        if child is None or child.detached:
            return
        try:
            child.process.wait(timeout)
        except subprocess.TimeoutExpired:
            child.process.kill()
        if child.listener is not None and child.listener is not threading.current_thread():
            child.listener.join(timeout)

    def leave(self) -> None:
        """Forget a detached child without ending it."""
        self._dismiss()

    def _dismiss(self) -> Child | None:
        with self._lock:
            child, self._child = self._child, None
            if child is not None:
                child.dismissed = True
                child.hang_up()
        return child

    def _begin(self, request: dict[str, Any]) -> None:
        with self._lock:
            child = self._child
            if child is not None:
                child.begin(resumable="resume" in request)
                child.write(request)
                return
        reason = "The engine is not running."
        self._inbox.put(RunFailed(run="", error="engine_died", message=reason, hint="Start it again."))
        self._inbox.put(Gone(reason))

    def _write(self, request: dict[str, Any]) -> None:
        with self._lock:
            if self._child is None:
                self._inbox.put(Gone("The engine is not running."))
            else:
                self._child.write(request)

    def _listen(self, child: Child) -> None:
        """Hand on what the child says; at its end, say how it ended."""
        assert child.process.stdout is not None
        for line in child.process.stdout:
            message = _read(line)
            if message is not None:
                child.follow(message)
                self._inbox.put(message)
        reason = child.wait()
        child.process.stdout.close()
        with self._lock:  # from here on, whoever asks for something is told that there is no engine
            child.hang_up()
            if self._child is child:
                self._child = None
            if child.dismissed:
                return
            if child.run is not None:
                self._inbox.put(child.died(reason))
            self._inbox.put(Gone(reason))


class RemoteSession:
    """A Session whose engine lives in a child process of its own: the same face, the same events."""

    def __init__(self, recipe: Recipe, runs: Path | str | None = None) -> None:
        self._begin()
        self._engine.run(recipe.document(), runs)

    @classmethod
    def resume(cls, run: str | Path, runs: Path | str | None = None) -> RemoteSession:
        session = cls.__new__(cls)
        session._begin()
        session._engine.resume(run, runs)
        return session

    @property
    def pid(self) -> int | None:
        return self._engine.pid

    def send(self, command: Command) -> None:
        self._engine.send(command)

    def __iter__(self) -> Iterator[Event]:
        return self._stream

    def _begin(self) -> None:
        self._engine = Engine()
        self._engine.start()
        self._stream = self._live()

    def _live(self) -> Iterator[Event]:
        try:
            while True:
                for message in self._engine.messages(timeout=1.0):
                    if isinstance(message, Gone):
                        raise EngineDied(message.reason)
                    if isinstance(message, Event):
                        yield message
                        if isinstance(message, events.ENDS):
                            return
        finally:
            self._engine.close()


def open_session(
    recipe: Recipe, runs: Path | str | None = None, *, in_process: bool = False
) -> Session | RemoteSession:
    """A run of `recipe`: in a child process, where a crash harms nothing else, or in this one."""
    if in_process:
        from kd_engine.session import Session

        return Session(recipe, runs)
    return RemoteSession(recipe, runs)


class LocalEngine(_Requests):
    """The face of `Engine` with the work done by a thread of this process: for tests and debugging."""

    def __init__(self) -> None:
        super().__init__()
        self._requests: queue.Queue[str] = queue.Queue()
        self._thread: threading.Thread | None = None
        self.pid = None

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        if not self.alive:
            self._requests = queue.Queue()
            self._thread = threading.Thread(target=self._work, name="kd-engine", daemon=True)
            self._thread.start()

    def detach(self) -> None:
        """Nothing to let go of: the work ends with this process."""

    leave = detach

    def close(self, timeout: float = 10.0) -> None:
        if self._thread is not None:
            self._requests.put("")
            self._thread.join(timeout)
            self._thread = None

    def _write(self, request: dict[str, Any]) -> None:
        if self.alive:
            self._requests.put(json.dumps(request) + "\n")
        else:
            self._inbox.put(Gone("The engine is not running."))

    def _work(self) -> None:
        from kd_engine.worker import serve

        def tell(text: str) -> None:
            message = _read(text)
            if message is not None:
                self._inbox.put(message)

        serve(iter(self._requests.get, ""), tell)


def _read(line: str) -> Message | None:
    """A message from its line; None for what is none (something else printed to standard output)."""
    try:
        data = json.loads(line)
    except ValueError:
        return None
    if not isinstance(data, dict):
        return None
    if "event" in data:
        try:
            return events.from_json(data)
        except TypeError:  # not whole
            return None
    if "ready" in data:
        return Ready(data["ready"])
    if "answer" in data:
        return Answer(data["answer"], data.get("values"), data.get("error", ""), data.get("hint", ""))
    return None


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def _text(path: Path | str | None) -> str | None:
    return None if path is None else str(path)
