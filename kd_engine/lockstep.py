"""The students of a stage in step: the same batches, one pass of the teacher, a step each, where that is
possible at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from typing import TypeVar

from kd_engine.backend import reseed
from kd_engine.batches import Batch
from kd_engine.classroom import Classroom
from kd_engine.data import labelled_plan, plan
from kd_engine.schedules import Clock
from kd_engine.side_by_side import SideBySide
from kd_engine.signals import Signals, together
from kd_engine.standing import Standing
from kd_engine.teacher import LiveTeacher
from kd_engine.trainee import Trainee

T = TypeVar("T")


class Lockstep:
    """The students that stand in `now`, taught by the teacher of their stage, where it has one."""

    def __init__(
        self, now: Standing, room: Classroom, teacher: LiveTeacher | None, beside: SideBySide
    ) -> None:
        self._now = now
        self._room = room
        self._teacher = teacher
        self._beside = beside

    def batches(self, steps: int) -> Generator[tuple[Batch, Batch | None], None, None]:
        """What is left of the epoch's `steps` batches; beside each that of those who learn from labels alone,
        where some labels are withheld. Close it when leaving early."""
        now, data, stage = self._now, self._room.data, self._now.stage
        epoch, first, seed = now.at.epoch, now.at.batch, now.recipe.seed
        train = self._room.batches("train")
        draws = plan(len(data.train), stage.batch_size, epoch, seed, data.views)[first:]
        if not self._apart():
            with closing(train.stream(draws)) as batches:
                for batch in batches:
                    yield batch, None
            return
        fair = labelled_plan(data.labelled, steps, stage.batch_size, epoch, seed, data.views)[first:]
        with closing(train.stream(draws)) as batches, closing(train.stream(fair)) as labelled:
            yield from zip(batches, labelled, strict=True)

    def step(self, rate: float, clock: Clock, batch: Batch, labelled: Batch | None) -> None:
        """One optimizer step of every student, at `rate` times the learning rate. labelled: see
        `batches`."""
        now, lay_out = self._now, self._room.backend.lay_out
        lr = rate * now.lr
        batch = batch._replace(inputs=lay_out(batch.inputs))
        teacher = None
        if self._teacher is not None and any(
            student.lesson.needs_teacher and not student.learner.peer for student in now.students
        ):
            teacher = self._teacher.signals(batch)
        if labelled is not None:
            labelled = labelled._replace(inputs=lay_out(labelled.inputs))
        peers = self._hear_peers(batch)

        def learn(student: Trainee) -> None:
            if student.learner.labels_only and labelled is not None:
                student.learn(now.at.step, lr, labelled, None, clock)
            elif student.name in peers:
                others = [said for name, said in peers.items() if name != student.name]
                student.learn(now.at.step, lr, batch, together(others), clock, peers[student.name])
            else:
                student.learn(now.at.step, lr, batch, teacher, clock)

        self._each(now.students, learn)
        now.at.batch += 1
        now.at.step += 1

    def _hear_peers(self, batch: Batch) -> dict[str, Signals]:
        """What those who teach each other say, by name, before any of them takes the step."""
        peers = [student for student in self._now.students if student.learner.peer]
        return self._each(peers, lambda peer: peer.hear(batch), by_name=True)

    def _each(
        self, students: list[Trainee], work: Callable[[Trainee], T], by_name: bool = False
    ) -> dict[str, T]:
        """What the work gives with each student, by name; at the same time where it can be. Those who draw
        random numbers all draw the same ones, unless `by_name`."""

        def task(student: Trainee) -> T:
            if student.name not in self._beside.names:  # the others draw none
                own = [student.name] if by_name else []
                reseed(self._now.recipe.seed, "step", self._now.at.step, *own)
            return work(student)

        return self._beside.do({student.name: partial(task, student) for student in students})

    def _apart(self) -> bool:
        """Whether some student learns from batches of its own: from labels alone where some are withheld."""
        labels_only = any(student.learner.labels_only for student in self._now.students)
        return labels_only and not self._room.data.labelled.all()
