"""Mutual learning: several students, none of them trained, teach each other while they learn."""

from __future__ import annotations

from dataclasses import replace

from kd_engine.events import STUDENT
from kd_engine.knobs import knob
from kd_engine.recipe import StageSection
from kd_engine.stages import Learner, Stage, StageKnobs, label_weight, learner, rivals


class MutualKnobs(StageKnobs):
    label_weight: float = label_weight(1.0)
    peers: int = knob(
        1, "How many others learn beside the student, each from weights of its own.", low=1, high=7
    )


class Mutual(Stage):
    """The student and its peers, of one architecture, see the same batches; at every step each learns from
    the labels and from what the others said at the same step. The recipe's teacher, where there is one, is
    not asked: it is what the result is measured against."""

    name = "mutual"
    title = "Learn from peers"
    help = "Several students of one kind learn together, each from the labels and from the others' answers."
    source = "Zhang, Xiang, Hospedales, Lu: Deep Mutual Learning, CVPR 2018. arXiv:1706.00384"
    Knobs = MutualKnobs
    needs_methods = True
    parts = ("optimizer", "schedule", "student", "methods", "rivals")

    @classmethod
    def learners(cls, stage: StageSection, path: str) -> list[Learner]:
        student = replace(learner(STUDENT, path, stage.label_weight, stage.methods), peer=True)
        peers = [replace(student, name=f"peer {k + 1}") for k in range(stage.more["peers"])]
        return [student, *rivals(stage, path), *peers]
