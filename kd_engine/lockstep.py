"""The students of a stage side by side: the same batches, one pass of the teacher, a step each."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing

from kd_engine.backend import reseed
from kd_engine.batches import Batch
from kd_engine.classroom import Classroom
from kd_engine.data import labelled_plan, plan
from kd_engine.schedules import Clock
from kd_engine.signals import Signals, together
from kd_engine.standing import Standing
from kd_engine.teacher import LiveTeacher


class Lockstep:
    """The students that stand in `now`, taught by the teacher of their stage, where it has one."""

    def __init__(self, now: Standing, room: Classroom, teacher: LiveTeacher | None) -> None:
        self._now = now
        self._room = room
        self._teacher = teacher

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
        peers = self._hear_peers(batch)
        for student in now.students:
            reseed(now.recipe.seed, "step", now.at.step)
            if student.learner.labels_only and labelled is not None:
                alone = labelled._replace(inputs=lay_out(labelled.inputs))
                student.learn(now.at.step, lr, alone, None, clock)
            elif student.name in peers:
                others = [said for name, said in peers.items() if name != student.name]
                student.learn(now.at.step, lr, batch, together(others), clock, peers[student.name])
            else:
                student.learn(now.at.step, lr, batch, teacher, clock)
        now.at.batch += 1
        now.at.step += 1

    def _hear_peers(self, batch: Batch) -> dict[str, Signals]:
        """What those who teach each other say, by name, before any of them takes the step."""
        said = {}
        for student in self._now.students:
            if student.learner.peer:
                reseed(self._now.recipe.seed, "step", self._now.at.step, student.name)
                said[student.name] = student.hear(batch)
        return said

    def _apart(self) -> bool:
        """Whether some student learns from batches of its own: from labels alone where some are withheld."""
        labels_only = any(student.learner.labels_only for student in self._now.students)
        return labels_only and not self._room.data.labelled.all()
