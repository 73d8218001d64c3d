"""Deep mutual learning: students that learn at the same time imitate each other."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from kd_engine.knobs import Knobs, knob
from kd_engine.methods import Terms
from kd_engine.methods._logits import LogitKnobs, LogitMethod, soft_targets
from kd_engine.signals import Signals


class DmlKnobs(LogitKnobs):
    weight: float = knob(
        1.0,
        "How much the peers' probabilities count in the sum. Published: 1, beside 1 for the labels.",
        low=0,
        high=10,
        scale="log",
        live=True,
        unit="weight",
    )
    temperature: float = knob(
        1.0,
        "Softens both distributions. Published: 1, as sharp as in use.",
        low=1,
        high=20,
        scale="log",
        live=True,
    )


class Dml(LogitMethod):
    """Mean over the peers j of T² · mean over samples of KL(softmax(z_j / T) ‖ softmax(z_s / T)), logits
    (..., C).

    The peers are `teacher.members`; a teacher without members is the one peer. No gradient goes to a peer:
    each takes its turn as the student, in the mutual stage. The paper has T = 1, where T² = 1 too; above 1,
    T² keeps the gradients' scale, as in `kd`. Zero when all say the same.

    The paper updates the peers one after the other, each on what the others say after their update; in the
    mutual stage here all step at once, on what the others said before it.
    """

    name: ClassVar[str] = "dml"
    title: ClassVar[str] = "Mutual learning (DML)"
    help: ClassVar[str] = (
        "The student imitates its peers, which learn at the same time; for the stage that trains several "
        "students together. With a finished teacher it is soft targets at temperature 1."
    )
    family: ClassVar[str] = "several models"
    source: ClassVar[str] = "Zhang, Xiang, Hospedales, Lu: Deep Mutual Learning, CVPR 2018. arXiv:1706.00384"
    Knobs: ClassVar[type[Knobs]] = DmlKnobs

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        losses = []
        for peer in teacher.members or (teacher,):
            ours, theirs = self.logits(student, peer)
            losses.append(soft_targets(ours, theirs, self.heat(peer.logits.flatten(0, -2))))
        return {"dml": torch.stack(losses).mean()}
