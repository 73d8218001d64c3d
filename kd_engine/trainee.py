"""One student in training: its lesson, its optimizer, and what has happened since the last report."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from kd_engine.backend import Backend
from kd_engine.batches import Batch
from kd_engine.document import get_at
from kd_engine.lesson import LABEL, Lesson, Losses, term_names
from kd_engine.methods import Method, create
from kd_engine.optim import clear_gradients, make_optimizer, set_rate, take_step
from kd_engine.recipe import MethodSection, NamedSection
from kd_engine.replay import Given, Numbers, Replay
from kd_engine.schedules import END, Clock
from kd_engine.signals import Shapes, Signals
from kd_engine.stages import Learner
from kd_engine.taps import Tap
from kd_engine.tasks import Task


@dataclass
class Report:
    """Means over some steps. terms: raw; weighted: times their weights. bad: the first step whose loss is
    no number."""

    steps: int = 0
    loss: float = 0.0
    terms: dict[str, float] = field(default_factory=dict)
    weighted: dict[str, float] = field(default_factory=dict)
    bad: int | None = None
    bad_terms: tuple[str, ...] = ()


@dataclass
class Tally:
    """What the steps of an epoch add up to. One by one and in order, so that the last bits do not depend on
    how the clock cut them into reports. losses: their sum."""

    steps: int = 0
    losses: float = 0.0
    right: float = 0.0
    counted: float = 0.0

    def add(self, loss: float, right: float, counted: float) -> None:
        self.steps += 1
        self.losses += loss
        self.right += right
        self.counted += counted

    @property
    def loss(self) -> float:
        """The mean of a step."""
        return self.losses / max(1, self.steps)

    @property
    def top1(self) -> float | None:
        """Accuracy on the labelled samples that were trained on; None when there were none."""
        return self.right / self.counted if self.counted else None


class Trainee:
    """A student, its lesson and optimizer, over one stage."""

    def __init__(
        self,
        learner: Learner,
        module: nn.Module,
        taps: dict[str, Tap],
        task: Task,
        shapes: tuple[Shapes, Shapes] | None,
        optimizer: NamedSection,
        backend: Backend,
    ) -> None:
        self.learner = learner
        self.name = learner.name
        self.module = module
        self.taps = taps
        self.lr = 0.0
        self.terms = term_names([section.method for section in learner.methods])
        methods: dict[str, Method] = {
            name: create(section.method, **_knobs(section))
            for name, section in zip(self.terms, learner.methods, strict=True)
        }
        self.lesson = Lesson(module, taps, task, methods, shapes, teaches=learner.peer)
        self.backend = backend
        backend.place(self.lesson)
        recorder = backend.recorder()
        self._replay = None if recorder is None else Replay(self._step, recorder)
        self._told = ""
        self.optimizer = make_optimizer(optimizer, self.lesson.parameters(), recorder is not None)
        self.scaler = backend.scaler()
        self._records: list[tuple[int, Numbers]] = []
        self.epoch = Tally()  # of the epoch so far
        # Best validation top-1, and after which epoch; without a validation part None, and the last epoch.
        self.best: tuple[float | None, int] | None = None

    def set_knobs(self, document: dict[str, Any]) -> None:
        """Take the values that stand in the recipe now: weights, and every method's knobs."""
        place = get_at(document, self.learner.path)
        self.lesson.weights[LABEL] = float(place.get("label_weight", self.learner.label_weight))
        for name, values in zip(self.terms, place.get("methods", ()), strict=True):
            method = self.lesson.methods[name]
            assert isinstance(method, Method)
            method.knobs = type(method).Knobs(**{key: v for key, v in values.items() if key != "method"})
            self.lesson.weights[name] = float(values["weight"])
        self._other_step()

    def hear(self, batch: Batch) -> Signals:
        """What the student says of a batch while it learns."""
        return self._hear(_given(batch, None))

    def learn(
        self,
        step: int,
        lr: float,
        batch: Batch,
        teacher: Signals | None,
        clock: Clock = END,
        said: Signals | None = None,
    ) -> None:
        """One optimizer step. said: what `hear` answered for this batch, where it was asked already.

        Nothing here waits for the device: numbers are read when a report is made. KdError where the step was
        to be recorded and could not be.
        """
        self.lr = lr
        set_rate(self.optimizer, lr)
        given = _given(batch, teacher)
        if self._replay is not None and said is None:
            numbers = self._replay(given, clock)
        else:
            numbers = self._step(given, clock, said)
        self._records.append((step, numbers))

    def why_not_recorded(self) -> str | None:
        """What keeps its steps from being recorded, in words, once; None when nothing does, or it was
        told."""
        why = "" if self._replay is None else self._replay.why_not
        if why in ("", self._told):
            return None
        self._told = why
        return why

    def report(self) -> Report:
        """Means since the last report; the epoch's tally has all of these steps then. Waits for the device
        once."""
        made = Report(steps=len(self._records))
        if self._records:
            self._fill(made)
        self._records = []
        return made

    def improved(self, top1: float | None, epoch: int) -> bool:
        """Whether this is its best so far, and then remember it."""
        best = self.best is None or top1 is None or self.best[0] is None or top1 > self.best[0]
        if best:
            self.best = (top1, epoch)
        return best

    def state(self) -> dict[str, Any]:
        """All that a resume needs, as plain values and tensors."""
        return {
            "lesson": self.lesson.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "tally": vars(self.epoch),
            "best": self.best,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.lesson.load_state_dict(state["lesson"])
        rates = [group["lr"] for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate  # a checkpoint's lies in the host's memory, and every step sets it anyway
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.epoch = Tally(**state["tally"]) if "tally" in state else _tally_of(state["epoch"])
        self.best = tuple(state["best"]) if state["best"] else None
        self._records = []
        self._other_step()

    def close(self) -> None:
        self.lesson.close()

    def _step(self, given: Given, clock: Clock, said: Signals | None = None) -> Numbers:
        self.lesson.set_clock(clock)
        clear_gradients(self.optimizer)
        said = self._hear(given) if said is None else said
        with self.backend.autocast():
            losses: Losses = self.lesson(said, given.teacher, given.target)
        scaler = self.scaler
        if scaler.is_enabled():
            scaler.scale(losses.total).backward()  # type: ignore[no-untyped-call]
            scaler.step(self.optimizer)
            scaler.update()
        else:
            losses.total.backward()  # type: ignore[no-untyped-call]
            take_step(self.optimizer)
        return _numbers(losses)

    def _hear(self, given: Given) -> Signals:
        if not (self.lesson.training and self.module.training):  # it walks through every part of the model
            self.lesson.train()
        with self.backend.autocast():
            return self.lesson.hear(given.inputs, given.samples)

    def _other_step(self) -> None:
        """What is recorded of the step is no longer true."""
        if self._replay is not None:
            self._replay.forget()

    def _fill(self, made: Report) -> None:
        each = iter(read(value for _, numbers in self._records for value in numbers.values))
        for step, numbers in self._records:
            loss = next(each)
            terms = {name: next(each) for name in numbers.terms}
            weighted = {name: next(each) for name in numbers.weighted}
            self.epoch.add(loss, next(each), next(each))
            if made.bad is None and not math.isfinite(loss):
                made.bad = step
                made.bad_terms = tuple(name for name, value in terms.items() if not math.isfinite(value))
            made.loss += loss / made.steps
            for whole, part in ((made.terms, terms), (made.weighted, weighted)):
                for name, value in part.items():
                    whole[name] = whole.get(name, 0.0) + value / made.steps


def read(values: Iterable[Tensor]) -> list[float]:
    """All numbers of the tensors, in order. Waits for a device once, however many there are; in the host's
    memory they lie ready, and each is there in a tenth of the time that a copy of them all takes."""
    found = list(values)
    if all(value.is_cpu for value in found):
        return [number for value in found for number in (value.tolist() if value.dim() else [value.item()])]
    together: list[float] = torch.cat([value.reshape(-1).float() for value in found]).tolist()
    return together


def _given(batch: Batch, teacher: Signals | None) -> Given:
    samples = torch.from_numpy(batch.draw.indices).to(batch.target.device, non_blocking=True)
    return Given(batch.inputs, samples, batch.target, teacher)


def _numbers(losses: Losses) -> Numbers:
    """The numbers, without what they were computed from."""
    values = (losses.total, *losses.terms.values(), *losses.weighted.values(), *losses.hits)
    return Numbers(tuple(losses.terms), tuple(losses.weighted), tuple(value.detach() for value in values))


def _knobs(section: MethodSection) -> dict[str, Any]:
    return {**section.more, "weight": section.weight}


def _tally_of(means: dict[str, Any]) -> Tally:
    """As it stands in checkpoints up to version 2."""
    steps, right, counted = means["steps"], means["right"], means["counted"]
    return Tally(steps, means["loss"] * steps, right, counted)
