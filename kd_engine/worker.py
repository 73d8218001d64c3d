"""The engine's own process: reads requests, runs sessions, answers questions, writes messages. See
kd_engine.remote.

One thread works; another reads the requests, so that a command reaches a session between two of its steps.
Questions are answered when no run is going, or between two of its events.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from kd_engine import commands, events
from kd_engine.commands import Stop
from kd_engine.errors import KdError
from kd_engine.events import Event, RunFailed

Tell = Callable[[str], object]

log = logging.getLogger("kd_engine")


class Worker:
    """Works off requests, one after the other; commands go to the session that is going."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._requests: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._session: Any = None
        self._detached = False
        self._early: list[commands.Command] = []  # commands for a run that has not begun yet

    def read(self, lines: Iterable[str]) -> None:
        """Take requests until there are no more: then a session that is going is stopped and kept, unless
        detached."""
        for line in lines:
            try:
                request = json.loads(line)
            except ValueError:
                log.error("not a request: %s", line[:200])
                continue
            self._take(request)
        session = self._session
        if session is not None and not self._detached:
            session.send(Stop(keep=True))
        self._requests.put(None)

    def work(self) -> None:
        """Until the requests end."""
        while (request := self._requests.get()) is not None:
            self._do(request)

    def say(self, message: dict[str, Any]) -> None:
        """To the other process; one that went away and let us go on is not missed."""
        try:
            self._tell(json.dumps(message) + "\n")
        except OSError:
            if not self._detached and self._session is not None:
                self._session.send(Stop(keep=True))

    def _take(self, request: dict[str, Any]) -> None:
        if "command" in request:
            command = commands.from_json(request)
            session = self._session
            if session is not None:
                session.send(command)
            else:
                self._early.append(command)
        elif "detach" in request:
            self._detached = True
        else:
            if "ask" not in request:
                self._early = []
            self._requests.put(request)

    def _do(self, request: dict[str, Any]) -> None:
        if "ask" in request:
            self._answer(request)
        else:
            self._run(request)

    def _run(self, request: dict[str, Any]) -> None:
        from kd_engine.recipe import Recipe
        from kd_engine.session import Session

        runs = request.get("runs")
        try:
            if "resume" in request:
                session = Session.resume(request["resume"], runs)
            else:
                session = Session(Recipe.from_document(request["run"]), runs)
        except KdError as error:
            self._say_event(RunFailed(run="", error="recipe", message=error.message, hint=error.hint))
            return
        session.idle = self._answer_waiting
        self._session = session
        for command in self._early:
            session.send(command)
        self._early = []
        try:
            for event in session:
                self._say_event(event)
                self._answer_waiting()
        finally:
            self._session = None

    def _answer_waiting(self) -> None:
        """Questions that came while a run is going; another run waits for its end."""
        later = []
        while not self._requests.empty():
            request = self._requests.get()
            if request is not None and "ask" in request:
                self._answer(request)
            else:
                later.append(request)
        for request in later:
            self._requests.put(request)

    def _answer(self, request: dict[str, Any]) -> None:
        from kd_engine import answers

        questions: dict[str, Callable[..., dict[str, Any]]] = {
            "describe": answers.describe,
            "probe": answers.probe,
            "export": answers.export,
            "evaluate": answers.evaluate_run,
        }
        values = {n: Path(v) if n in ("runs", "path") and v else v for n, v in request["values"].items()}
        try:
            told = questions[request["ask"]](**values)
        except KdError as error:
            self.say({"answer": request["id"], "error": error.message, "hint": error.hint})
        except Exception as error:  # the border: an unforeseen fault is told, and logged with its traceback
            log.error("question failed: %s", request, exc_info=error)
            self.say({"answer": request["id"], "error": f"{type(error).__name__}: {error}"})
        else:
            self.say({"answer": request["id"], "values": told})

    def _say_event(self, event: Event) -> None:
        self.say(events.to_json(event))


def serve(lines: Iterable[str], tell: Tell) -> None:
    """Say Ready, then work off the requests in `lines` until they end."""
    from kd_engine import catalog

    worker = Worker(tell)
    reader = threading.Thread(target=worker.read, args=(lines,), name="kd-engine-requests", daemon=True)
    found = catalog.load()
    import kd_engine.answers
    import kd_engine.session  # noqa: F401 (what costs seconds is imported before Ready)

    worker.say({"ready": found.to_json()})
    reader.start()
    worker.work()
    reader.join()


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # What libraries print must not get among the messages: they keep the old standard output to themselves.
    messages = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(sys.stdin, messages.write)


if __name__ == "__main__":
    main()
