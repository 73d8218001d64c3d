"""The engine's own process: reads requests, runs sessions, answers questions, writes messages. See
kd_engine.remote.

One thread works; another reads the requests, so that a command reaches a session between two of its steps.
Questions are answered when no run is going, or between two of its events.
"""

from __future__ import annotations

import inspect
import json
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd_engine import commands, events
from kd_engine.allocation import give_back, keep_freed
from kd_engine.commands import Command, Stop
from kd_engine.errors import KdError, did_you_mean
from kd_engine.events import Event, Refused, RunFailed

if TYPE_CHECKING:
    from kd_engine.session import Session

Tell = Callable[[str], object]

IDLE_S = 1.0

log = logging.getLogger("kd_engine")


class Worker:
    """Works off requests, one after the other; commands go to the session that is going, or is about to.

    spare: done once, when there was nothing else to do for a while.
    """

    def __init__(self, tell: Tell, spare: Callable[[], object] | None = None) -> None:
        self._tell = tell
        self._spare = spare
        self._telling = threading.Lock()
        self._deaf = False  # the other process hears us no more
        self._bell = threading.Condition()  # guards all that follows
        self._requests: deque[dict[str, Any]] = deque()
        self._over = False  # there will be no more of them
        self._detached = False
        self._session: Session | None = None
        self._awaited = 0  # runs that were asked for and have no session yet
        self._early: list[Command] = []  # commands for the next of them

    def read(self, lines: Iterable[str]) -> None:
        """Take requests until there are no more: then a session that is going is stopped and kept, unless
        detached."""
        try:
            for line in lines:
                self._hear(line)
        finally:
            with self._bell:
                self._over = True
                self._bell.notify_all()
            self._stop_if_alone()

    def work(self) -> None:
        """Until the requests end."""
        while (request := self._next()) is not None:
            if "ask" in request:
                self._answer(request)
            else:
                self._run(request)
                give_back()  # a window may be open for days

    def say(self, message: dict[str, Any]) -> None:
        """To the other process; one that went away and let us go on is not missed."""
        with self._telling:
            if self._deaf:
                return
            try:
                self._tell(json.dumps(message) + "\n")
                return
            except (OSError, ValueError):  # closed at the other end, or at ours
                self._deaf = True
        self._stop_if_alone()

    # -- requests ------------------------------------------------------------------------------------------

    def _hear(self, line: str) -> None:
        try:
            request = json.loads(line)
        except ValueError:
            request = None
        if not isinstance(request, dict) or not set(request) & {"command", "ask", "run", "resume", "detach"}:
            log.error("not a request: %s", line[:200])
        elif "command" in request:
            self._command(request)
        else:
            with self._bell:
                if "detach" in request:
                    self._detached = True
                    return
                self._awaited += "ask" not in request
                self._requests.append(request)
                self._bell.notify_all()

    def _command(self, request: dict[str, Any]) -> None:
        try:
            command = commands.from_json(request)
        except (KeyError, TypeError) as error:
            why = f"no such command, or not with these settings ({error})"
            self._say_event(Refused(command=str(request["command"]), path="", why=why))
            return
        with self._bell:
            if self._session is not None:
                self._session.send(command)
            elif self._awaited:
                self._early.append(command)

    def _next(self) -> dict[str, Any] | None:
        """The next request, after waiting for it; None when there are no more."""
        if self._spare is not None:
            with self._bell:
                busy = self._bell.wait_for(self._due, IDLE_S)
            if not busy:
                self._spare()
                self._spare = None
        with self._bell:
            self._bell.wait_for(self._due)
            return self._requests.popleft() if self._requests else None

    def _due(self) -> bool:
        return bool(self._requests) or self._over

    def _stop_if_alone(self) -> None:
        with self._bell:
            if self._session is not None and not self._detached:
                self._session.send(Stop(keep=True))

    # -- runs ----------------------------------------------------------------------------------------------

    def _run(self, request: dict[str, Any]) -> None:
        try:
            session = self._open(request)
        except Exception as error:  # the border: what went wrong becomes an event
            self._say_event(_failed(error))
            session = None
        with self._bell:
            self._awaited -= 1
            self._session, early, self._early = session, self._early, []
        if session is not None:
            for command in early:
                session.send(command)
            self._follow(session)

    def _open(self, request: dict[str, Any]) -> Session | None:
        """None when nobody is there any more who could want it."""
        from kd_engine.recipe import Recipe
        from kd_engine.session import Session

        if self._over and not self._detached:
            return None
        runs = request.get("runs")
        if "resume" in request:
            return Session.resume(request["resume"], runs)
        return Session(Recipe.from_document(request["run"]), runs)

    def _follow(self, session: Session) -> None:
        session.idle = self._answer_waiting
        if self._over or self._deaf:
            self._stop_if_alone()
        try:
            for event in session:
                if isinstance(event, events.ENDS):
                    self._ended()  # before it is told: a command that follows is for the next run
                self._say_event(event)
                self._answer_waiting()
        finally:
            self._ended()

    def _ended(self) -> None:
        with self._bell:
            self._session = None

    def _say_event(self, event: Event) -> None:
        self.say(events.to_json(event))

    # -- questions -----------------------------------------------------------------------------------------

    def _answer_waiting(self) -> None:
        """Questions that came while a run is going; another run waits for its end."""
        while True:
            with self._bell:
                request = next((request for request in self._requests if "ask" in request), None)
                if request is None:
                    return
                self._requests.remove(request)
            self._answer(request)

    def _answer(self, request: dict[str, Any]) -> None:
        from kd_engine.backend import threads_kept

        told: dict[str, Any] = {"answer": request.get("id", "")}
        try:
            with threads_kept():
                told["values"] = _ask(request["ask"], request.get("values", {}))
        except KdError as error:
            told |= {"error": error.message, "hint": error.hint}
        except Exception as error:  # the border: an unforeseen fault is told, and logged with its traceback
            log.error("question failed: %s", request, exc_info=error)
            told["error"] = f"{type(error).__name__}: {error}"
        self.say(told)


def _ask(what: Any, values: Any) -> dict[str, Any]:
    from kd_engine import answers

    questions: dict[str, Callable[..., dict[str, Any]]] = {
        "describe": answers.describe,
        "probe": answers.probe,
        "export": answers.export,
        "evaluate": answers.evaluate,
    }
    if not isinstance(what, str) or what not in questions:
        near = did_you_mean(str(what), questions)
        raise KdError(f"no question {what!r}{near}.", f"There are {', '.join(questions)}.")
    given = {name: Path(v) if name in ("runs", "path", "out") and v else v for name, v in values.items()}
    try:
        inspect.signature(questions[what]).bind(**given)
    except TypeError as error:
        raise KdError(f"question '{what}': {error}.") from None
    return questions[what](**given)


def _failed(error: Exception) -> RunFailed:
    """A run that has no session: nothing was written."""
    from kd_engine.failures import explain

    log.error("no session", exc_info=error)
    code, message, hint = explain(error)
    return RunFailed(run="", error=code, message=message, hint=hint)


def serve(lines: Iterable[str], tell: Tell, spare: Callable[[], object] | None = None) -> None:
    """Say Ready, then work off the requests in `lines` until they end. spare: see Worker."""
    from kd_engine import catalog

    worker = Worker(tell, spare)
    reader = threading.Thread(target=worker.read, args=(lines,), name="kd-engine-requests", daemon=True)
    reader.start()  # first: who writes requests must not wait until a full pipe is read
    found = catalog.load()
    import kd_engine.answers
    import kd_engine.session  # noqa: F401 (what costs seconds is imported before Ready)

    worker.say({"ready": found.to_json()})
    worker.work()
    reader.join()


def main() -> None:
    keep_freed()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # What libraries print must not get among the messages: they keep the old standard output to themselves.
    messages = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(sys.stdin, messages.write, _warm_up)


def _warm_up() -> None:
    """The first optimizer makes torch import its compiler, for a second and more: better now than when
    somebody waits for a run to begin. And that import keeps for ever what it finds on the stack: a run's
    models, in the first run."""
    from torch import nn, optim, zeros

    optim.SGD([nn.Parameter(zeros(1))])


if __name__ == "__main__":
    main()
