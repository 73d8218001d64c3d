"""An engine that trains nothing: the face of `kd_engine.remote.Engine`, a scripted run, real files in the
store.

A run moves only inside `messages`, one event a call, so a test that stops listening stands still. Curves are
made up; folders, events, snapshots and summaries have the real formats."""

from __future__ import annotations

import itertools
import json
import math
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kd_engine import commands, events
from kd_engine.commands import Command
from kd_engine.events import Event
from kd_engine.remote import Answer, Gone, Message, Ready
from kd_engine.store import RunFolder, Store
from kd_gui.state import demo_evaluation

CLASSES = [str(digit) for digit in range(10)]
STEPS_PER_EPOCH = 10
HELD_OUT = 100  # images of the validation part


class FakeEngine:
    """pace: seconds between two events of a run. nan_at: the step whose loss is not a number. fail_at: the
    step at which the run fails, with the code `failure`. slow_boot: `start` does not become ready until
    `boot` is called."""

    def __init__(
        self,
        catalog: dict[str, Any],
        *,
        pace: float = 0.0,
        nan_at: int = 0,
        fail_at: int = 0,
        failure: str = "memory",
        slow_boot: bool = False,
    ) -> None:
        self.catalog = catalog
        self.pace, self.nan_at, self.fail_at, self.failure = pace, nan_at, fail_at, failure
        self.slow_boot = slow_boot
        self.heard: list[Any] = []  # everything that was asked of it, in order
        self.started = self.closed = self.detached = False
        self._changed = threading.Condition()
        self._out: deque[Message] = deque()
        self._life: _Life | None = None
        self._end = ""  # why it shall end: "closed", or what it died of
        self._wish: Callable[[], _Life] | None = None  # a run that was asked for
        self._ids = itertools.count(1)

    # ---- the face of an engine
    def start(self) -> None:
        self.started, self.closed = True, False
        if not self.slow_boot:
            self.boot()

    def boot(self) -> None:
        self._say(Ready(self.catalog))

    def run(self, document: dict[str, Any], runs: Path | None = None) -> None:
        self.heard.append(("run", document))
        plain = json.loads(json.dumps(document))
        self._begin(lambda: _Life(self, plain, Store(runs).create(plain)))

    def resume(self, run: str | Path, runs: Path | None = None) -> None:
        self.heard.append(("resume", str(run)))

        def life() -> _Life:
            folder = Store(runs).open(run)
            folder.lock()
            return _Life(self, folder.recipe(), folder, resumed=True)

        self._begin(life)

    def send(self, command: Command) -> None:
        self.heard.append(command)
        with self._changed:
            if self._life is not None:
                self._life.commands.append(command)
            self._changed.notify_all()

    def ask(self, what: str, **values: Any) -> str:
        name = f"{what}-{next(self._ids)}"
        self.heard.append((what, values))
        try:
            self._say(Answer(name, getattr(self, f"_{what}")(**values), "", ""))
        except OSError as error:
            self._say(Answer(name, None, str(error), "Choose another place."))
        return name

    def detach(self) -> None:
        self.detached = True

    def leave(self) -> None:
        self.heard.append("leave")
        self._let_go()

    def close(self, timeout: float = 10.0) -> None:
        self.closed = True
        self._let_go()

    def _let_go(self) -> None:
        with self._changed:
            self._end = "closed"
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._life is None, timeout=1.0)

    def messages(self, timeout: float) -> list[Message]:
        with self._changed:
            if self._end:
                self._die()
            if self._wish is not None:  # here, because a lock belongs to the thread that took it
                self._life, self._wish = self._wish(), None
            if not self._out and self._life is not None:
                self._move(timeout)
            elif not self._out:
                self._changed.wait(timeout)
            said = list(self._out)
            self._out.clear()
            return said

    def _die(self) -> None:
        """Let go of the run, in the thread that holds its lock; unless closed on purpose, tell of it."""
        reason, self._end = self._end, ""
        life, self._life, self._wish = self._life, None, None
        if life is not None:
            life.folder.close()
        self._changed.notify_all()
        if reason == "closed":
            return
        if life is not None:
            told = {"run": life.folder.name, "step": life.step, "resumable": True}
            message = "The engine stopped unexpectedly."
            self._out.append(events.RunFailed(error="engine_died", message=message, **told))
        self._out.append(Gone(reason))

    def _move(self, timeout: float) -> None:
        assert self._life is not None
        if self.pace:
            self._changed.wait(self.pace)
        event = self._life.move()
        if event is None:
            self._changed.wait(timeout)
            return
        self._out.append(event)
        if isinstance(event, events.ENDS):
            self._life.folder.close()
            self._life = None

    # ---- for tests
    def die(self, reason: str = "killed by signal 9") -> None:
        """The child process is gone in the middle of whatever it did."""
        with self._changed:
            self._end = reason
            self._changed.notify_all()

    def asked(self, kind: type[Command]) -> list[Command]:
        return [item for item in self.heard if isinstance(item, kind)]

    def _begin(self, life: Callable[[], _Life]) -> None:
        with self._changed:
            self._wish = life
            self._changed.notify_all()

    def _say(self, message: Message) -> None:
        with self._changed:
            self._out.append(message)
            self._changed.notify_all()

    # ---- answers
    def _describe(self, recipe: dict[str, Any], runs: str) -> dict[str, Any]:
        return {
            "problems": [],
            "teacher": _model(recipe.get("teacher") or {}, 270_000, 0.975),
            "student": _model(recipe["student"], 78_000, None),
            "data": {
                "title": "Digits",
                "classes": CLASSES,
                "train": 1294,
                "validation": 143,
                "test": 360,
                "labelled": 100,
                "size": 32,
                "notes": [],
            },
            "samples": None,
        }

    def _probe(self, run: str, runs: str, probe: str, sample: int, tap: str, part: str) -> dict[str, Any]:
        path = Path(run) / "probes" / f"{probe}_{part}_{sample}_{tap}_last.npz"
        save_probe(path, sample)
        return {"path": str(path), "numbers": {"similarity": 0.87}}

    def _evaluate(self, run: str, runs: str, robust: bool) -> dict[str, Any]:
        if not (Path(run) / "last.safetensors").is_file():
            raise OSError("this run has no weights yet.")
        return demo_evaluation.answer(CLASSES, corrupted=robust)

    def _export(self, run: str, runs: str, format: str, path: str, which: str) -> dict[str, Any]:
        target = Path(path)
        target.write_bytes((Path(run) / f"{which}.safetensors").read_bytes())
        card = target.with_suffix(".md")
        card.write_text("# card\n", encoding="utf-8")
        code = f"from kd_engine import load_model\nmodel = load_model({path!r})\nscores = model(images)"
        return {"path": path, "card_path": str(card), "bytes": target.stat().st_size, "code": code}


class _Life:
    """One run in motion."""

    def __init__(
        self, engine: FakeEngine, document: dict[str, Any], folder: RunFolder, resumed: bool = False
    ) -> None:
        self.commands: deque[Command] = deque()
        self.folder = folder
        self.step = 0
        self._engine = engine
        self._document = document
        self._stage = document["stages"][0]
        self._names = [events.STUDENT, *(rival["name"] for rival in self._stage.get("rivals", ()))]
        self._paused = False
        self._until = ""
        self._replies: deque[Event] = deque()
        self._events = self._resumed() if resumed else self._whole()

    def move(self) -> Event | None:
        """The next event, or None while it stands still."""
        while self.commands:
            self._obey(self.commands.popleft())
        if self._replies:
            return self._log(self._replies.popleft())
        if self._paused:
            return None
        event = next(self._events)
        if self._until and isinstance(event, events.EpochDone if self._until == "epoch" else events.StepDone):
            self._until, self._paused = "", True
            self._replies.append(events.Paused(step=self.step, why="step"))
        return self._log(event)

    def _log(self, event: Event) -> Event:
        if self.folder.folder.is_dir():
            self.folder.append(event)
        return event

    def _obey(self, command: Command) -> None:
        match command:
            case commands.Pause():
                self._paused = True
                self._replies.append(events.Paused(step=self.step))
            case commands.Continue():
                self._paused = False
                self._replies.append(events.Continued(step=self.step))
            case commands.StepOnce(unit=unit):
                self._paused, self._until = False, unit
            case commands.Stop(keep=keep):
                self._paused = False
                self._events = self._stop(keep)
            case commands.SetKnob(path=path, value=value):
                self._replies.append(events.KnobChanged(step=self.step, path=path, old=4.0, new=value))
            case commands.AskProbe(probe=probe, sample=sample, tap=tap, id=name):
                path = self.folder.path(f"probes/{name}.npz")
                save_probe(path, sample)
                self._replies.append(
                    events.ProbeReady(
                        id=name,
                        probe=probe,
                        sample=sample,
                        tap=tap,
                        step=self.step,
                        epoch=self.step // STEPS_PER_EPOCH,
                        path=str(path),
                        numbers={"similarity": 0.87},
                    )
                )

    def _stop(self, keep: bool) -> Iterator[Event]:
        if keep:
            self._keep_weights()
            self._summarise("stopped", self.step // STEPS_PER_EPOCH)
        else:
            self.folder.delete()
        yield events.RunStopped(run=self.folder.name, step=self.step, kept=keep)

    def _whole(self) -> Iterator[Event]:
        where = {"run": self.folder.name, "folder": str(self.folder.folder), "recipe": self._document}
        yield events.RunStarted(**where, environment={"device": "cpu", "threads": 2})
        for what in ("data", "teacher", "student"):
            yield events.Preparing(what=what, fraction=None)
        yield from self._training(0)

    def _resumed(self) -> Iterator[Event]:
        self.step = STEPS_PER_EPOCH
        yield events.RunResumed(
            run=self.folder.name,
            folder=str(self.folder.folder),
            recipe=self._document,
            environment={"device": "cpu", "threads": 2},
            stage=0,
            epoch=1,
            step=self.step,
        )
        yield from self._training(1)

    def _training(self, first: int) -> Iterator[Event]:
        epochs = self._stage["epochs"]
        yield events.TeacherReady(model="resnet20", parameters=270_000, top1=0.975, top1_test=0.97)
        yield events.StageStarted(
            stage=0,
            kind="distill",
            epochs=epochs,
            steps_per_epoch=STEPS_PER_EPOCH,
            students=self._names,
            model=self._document["student"]["model"],
            parameters=78_000,
            classes=CLASSES,
        )
        pictures = save_samples(self.folder.path("snapshots/samples.npz"))
        yield events.SamplesReady(path=str(pictures), part="validation")
        if first == 0:
            yield self._snapshot(0)
        for epoch in range(first + 1, epochs + 1):
            yield from self._epoch(epoch)
        yield from self._end()

    def _epoch(self, epoch: int) -> Iterator[Event]:
        for _ in range(STEPS_PER_EPOCH):
            self.step += 1
            if self.step == self._engine.fail_at:
                yield self._failure()
                return
            if self.step == self._engine.nan_at:
                message = f"The loss became NaN at step {self.step}."
                values = {"step": self.step, "lr": self._stage["optimizer"]["lr"]}
                yield events.Notice(level="error", code="nan", message=message, values=values)
                self._paused = True
                yield events.Paused(step=self.step, why="nan")
            for i, name in enumerate(self._names):
                yield self._report(epoch, name, i)
        for i, name in enumerate(self._names):
            yield self._epoch_done(epoch, name, i)
        yield self._snapshot(epoch)
        self._keep_weights()
        yield events.CheckpointSaved(
            stage=0, epoch=epoch, step=self.step, path=str(self.folder.path("resume.pt")), bytes=9, ms=2.0
        )

    def _failure(self) -> Event:
        self._summarise("failed", self.step // STEPS_PER_EPOCH)
        return events.RunFailed(
            run=self.folder.name,
            error=self._engine.failure,
            message=f"Out of memory at batch size {self._stage['batch_size']}.",
            hint=f"Try batch size {self._stage['batch_size'] // 2}.",
            step=self.step,
            resumable=True,
        )

    def _report(self, epoch: int, name: str, i: int) -> Event:
        value = (1.0 + 0.3 * i) * math.exp(-self.step / 40) + 0.02 * math.sin(self.step * 3.7)
        terms = {"kd": 0.6 * value, "label": 0.4 * value} if i == 0 else {"label": value}
        return events.StepDone(
            stage=0,
            epoch=epoch,
            step=self.step,
            student=name,
            loss=value,
            terms=terms,
            weighted=terms,
            lr=0.05,
            samples_per_s=5248.0,
        )

    def _epoch_done(self, epoch: int, name: str, i: int) -> Event:
        top1 = (0.958 if i == 0 else 0.76) * (1 - math.exp(-epoch / 1.5))
        held = {"top1": top1, "loss": 1 - top1, "agreement": top1 * 0.99, "kl": 0.3 * (1 - top1)}
        return events.EpochDone(
            stage=0,
            epoch=epoch,
            step=self.step,
            student=name,
            train={"top1": min(1.0, top1 + 0.01), "loss": 1 - top1},
            validation=held,
            best=True,
            seconds=0.4,
        )

    def _snapshot(self, epoch: int) -> Event:
        path = self.folder.path(f"snapshots/epoch_{epoch:03d}.npz")
        save_snapshot(path, epoch)
        return events.SnapshotSaved(stage=0, epoch=epoch, step=self.step, path=str(path))

    def _keep_weights(self) -> None:
        for name in ("resume.pt", "last.safetensors", "best.safetensors"):
            self.folder.write(name, lambda path: path.write_bytes(b"weights"))

    def _summarise(self, status: str, epochs: int) -> dict[str, Any]:
        accuracy = {"top1_test_last": 0.951, "top1_test_best": 0.953, "top1_validation_best": 0.958}
        students: dict[str, Any] = {
            events.STUDENT: {
                **accuracy,
                "agreement": 0.96,
                "kl": 0.04,
                "parameters": 78_000,
                "bytes": 305_000,
            }
        }
        for name in self._names[1:]:
            students[name] = {
                **dict.fromkeys(accuracy, 0.76),
                "agreement": 0.77,
                "kl": 0.5,
                "parameters": 78_000,
                "bytes": 305_000,
            }
        summary = {
            "status": status,
            "name": self._document.get("name", ""),
            "run": self.folder.name,
            "epochs": epochs,
            "seconds": 22.0,
            "temperature": 4.0,
            "students": students,
            "teacher": {"model": "resnet20", "parameters": 270_000, "bytes": 1_080_000, "top1_test": 0.97},
            "retention": 0.98,
            "gain": 0.191 if self._names[1:] else None,
            "size_ratio": 3.5,
            "device": "cpu",
        }
        self.folder.write_json("summary.json", summary)
        return summary

    def _end(self) -> Iterator[Event]:
        summary = self._summarise("done", self._stage["epochs"])
        for name in self._names:
            told = summary["students"][name]
            for weights in ("last", "best"):
                yield events.Evaluated(
                    student=name, weights=weights, metrics={"top1": told[f"top1_test_{weights}"]}
                )
        yield events.RunDone(run=self.folder.name, summary=summary)


def _model(section: dict[str, Any], parameters: int, top1: float | None) -> dict[str, Any]:
    return {
        "model": section.get("model", ""),
        "parameters": parameters,
        "macs": parameters * 150,
        "bytes": parameters * 4,
        "top1": top1,
    }


def save_samples(path: Path, count: int = 24, size: int = 32) -> Path:
    """What `Samples.load` reads: pictures of a bright blob, and a teacher that is mostly right."""
    random = np.random.default_rng(0)
    labels = np.arange(count) % 10
    across = np.linspace(-1, 1, size)
    centres = random.uniform(-0.4, 0.4, (count, 2))
    x, y = across - centres[:, :1], across - centres[:, 1:]
    blob = np.exp(-((x[:, None] ** 2 + y[:, :, None] ** 2) * 6))
    images = (np.repeat(blob[:, None], 3, axis=1) * 255).astype(np.uint8)
    logits = random.normal(0, 1, (count, 10)) + 6 * np.eye(10)[labels]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        images=images,
        labels=labels,
        indices=np.arange(count),
        classes=np.array(CLASSES),
        teacher_logits=logits.astype(np.float32),
        teacher_heat=blob.astype(np.float32),
        masks=(blob > 0.5),
        validation_labels=np.arange(HELD_OUT) % 10,
        teacher_validation_predictions=(np.arange(HELD_OUT) % 10).astype(np.uint8),
    )
    return path


def save_snapshot(path: Path, epoch: int, count: int = 24, size: int = 32) -> Path:
    """What `Samples.add_snapshot` reads: a student that grows more like the teacher with every epoch."""
    random = np.random.default_rng(epoch + 1)
    labels = np.arange(count) % 10
    logits = random.normal(0, 1, (count, 10)) + min(epoch, 6) * np.eye(10)[labels]
    heat = random.uniform(0, 1, (count, size, size)) / (1 + epoch)
    held_out = np.where(random.random(HELD_OUT) < epoch / (epoch + 1), np.arange(HELD_OUT) % 10, 3)
    heat[:, size // 4 : 3 * size // 4, size // 4 : 3 * size // 4] += 0.5
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        student_logits=logits.astype(np.float32),
        student_heat=np.clip(heat, 0, 1).astype(np.float32),
        epoch=np.array(epoch),
        validation_predictions=held_out.astype(np.uint8),
    )
    return path


def save_probe(path: Path, sample: int, size: int = 32) -> Path:
    """What `Samples.take_probe` reads."""
    random = np.random.default_rng(sample)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        teacher=random.uniform(0, 1, (size, size)).astype(np.float32),
        student=random.uniform(0, 1, (size, size)).astype(np.float32),
        teacher_logits=random.normal(0, 1, 10).astype(np.float32),
        student_logits=random.normal(0, 1, 10).astype(np.float32),
        teacher_tap=np.array("last stage, 8×8"),
        student_tap=np.array("last stage, 8×8"),
    )
    return path
