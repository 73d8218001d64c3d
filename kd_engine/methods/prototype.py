"""Prototypes: how near a sample is to the typical members of every class, in the teacher's eyes."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd_engine.knobs import Knobs, knob
from kd_engine.methods import MethodKnobs, Terms, full_precision, one_hot
from kd_engine.methods._features import Pair, PairMethod, both_embeddings, exact_products
from kd_engine.signals import Shapes, Signals

ABSENT = -1e9  # in place of the likeness to a prototype that has no members yet
SPLIT = 0.5  # how far apart a class's prototypes begin, in standard deviations


class PrototypeKnobs(MethodKnobs):
    weight: float = knob(
        1.0,
        "How much the likeness to prototypes counts in the sum.",
        low=0,
        high=100,
        scale="log",
        live=True,
        unit="weight",
    )
    per_class: int = knob(
        1,
        "Prototypes of each class. More show how a class falls into kinds; they are found as k-means would.",
        low=1,
        high=16,
        label="Prototypes per class",
    )
    temperature: float = knob(
        0.1,
        "How soft the comparison with the prototypes is, as a share of the mean squared distance between "
        "samples and prototypes.",
        low=0.01,
        high=10,
        scale="log",
        live=True,
    )
    window: int = knob(
        5000,
        "How many samples a prototype is the mean of; older ones fade. Matters where the teacher changes.",
        low=10,
        high=1000000,
        scale="log",
        unit="samples",
        advanced=True,
    )


class Prototype(PairMethod):
    """With p_1 ... p_m the prototypes that have members, t_i the teacher's embedding (N, D) and
    s_i = A·(the student's embedding) + a, trained with the student:

    q(x)_j = softmax over j of −‖x − p_j‖² / (τ·v)
    prototype = mean over i of KL(q(t_i) ‖ q(s_i))

    v is the mean of ‖t_i − p_j‖² over everything seen, so that τ has no unit. 0 where s = t; unchanged when
    the teacher's embeddings are shifted, turned or scaled with the prototypes.

    Prototypes are running means of the teacher's embeddings in training mode, before the loss of the same
    batch: with one a class, the mean of the class. With several, each sample joins the nearest of its class
    (mini-batch k-means). A class's prototypes begin at the mean of its members in the first batch that has
    any, plus half a standard deviation in fixed directions of random signs, pairs of them opposite. A sample
    whose label is withheld belongs to the class that the teacher gives it. Without members a prototype takes
    no part in q; before the first training batch none does, and the loss is 0. All of that is buffers, saved
    with a run.

    Ours is the whole: classifying by distance to class means is Snell et al. 2017, matching teacher and
    student by prototypes ProtoKD and PGKD (which compare pixels' or prototypes' likenesses, in either model's
    own space), several per class LELP's pseudo-subclasses (which are directions, not means).
    """

    name: ClassVar[str] = "prototype"
    title: ClassVar[str] = "Prototypes"
    help: ClassVar[str] = (
        "The student places each sample among the typical members of all classes as the teacher does. Adds a "
        "small trained part, which is dropped at export."
    )
    family: ClassVar[str] = "relations"
    source: ClassVar[str] = (
        "Ours, after Snell, Swersky, Zemel: Prototypical Networks, 2017. arXiv:1703.05175; Wang et al.: "
        "Prototype Knowledge Distillation (ProtoKD), 2023. arXiv:2303.09830; Wu et al.: Prototype-Guided "
        "Knowledge Distillation (PGKD), 2023. arXiv:2303.13763; Linear Projections of Teacher Embeddings "
        "(LELP), 2024. arXiv:2409.20449; Sculley: Web-Scale K-Means Clustering, 2010"
    )
    Knobs: ClassVar[type[Knobs]] = PrototypeKnobs
    hard_targets: ClassVar[bool] = True
    wants: ClassVar[str] = "embeddings in both models"

    projector: nn.Linear
    centres: Tensor  # (C, k, D)
    members: Tensor  # (C, k): how many samples each is the mean of
    signs: Tensor  # (k, D): where a class's prototypes begin, seen from its mean
    spread: Tensor  # (2,): v, and how many samples it is the mean of; 0 where all is in one place

    def choose(self, student: Shapes, teacher: Shapes) -> tuple[Pair, ...]:
        return both_embeddings(student, teacher)

    def problems(self, student: Shapes, teacher: Shapes) -> list[str]:
        found = super().problems(student, teacher)
        if student.classes != teacher.classes:
            found.append(f"the student has {student.classes} classes, the teacher {teacher.classes}")
        return found

    def build(self, student: Shapes, teacher: Shapes) -> None:
        super().build(student, teacher)
        (width,) = teacher.taps["embedding"]
        classes, k = teacher.classes, self.knobs.per_class
        self.projector = nn.Linear(student.taps["embedding"][0], width)
        self.register_buffer("centres", torch.zeros(classes, k, width))
        self.register_buffer("members", torch.zeros(classes, k))
        signs = torch.randint(2, (k, width)) * 2.0 - 1
        signs[1::2] = -signs[: k // 2 * 2 : 2]  # opposite pairs: two prototypes never begin as one
        self.register_buffer("signs", signs)
        self.register_buffer("spread", torch.zeros(2))

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        theirs = full_precision(teacher.taps["embedding"])
        ours = full_precision(self.projector(full_precision(student.taps["embedding"])))
        with exact_products(ours):
            if self.training:
                guess = teacher.logits.argmax(-1)
                self._learn(theirs, torch.where(target < 0, guess, target))
            p, q = self._likeness(ours), self._likeness(theirs)
        return {"prototype": F.kl_div(p, q, reduction="batchmean", log_target=True)}

    def _likeness(self, rows: Tensor) -> Tensor:
        """log q of embeddings (N, D), (N, C·k)."""
        centres, present, middle = self._present()
        rows, centres = rows - middle, centres - middle  # smaller numbers: less rounding
        nearness = 2 * rows @ centres.T - centres.square().sum(1)  # −d², but for ‖x‖², which cancels
        scaled = nearness / (self.knobs.temperature * self.spread[0].clamp(min=1e-12))
        masked: Tensor = scaled.masked_fill(~present, ABSENT)
        return masked.log_softmax(1)

    @torch.no_grad()
    def _learn(self, rows: Tensor, labels: Tensor) -> None:
        """Let embeddings (N, D) with labels (N,) move the prototypes."""
        classes, k, _ = self.centres.shape
        self._begin(rows, one_hot(labels, classes).to(rows.dtype))
        distance = (rows.unsqueeze(1) - self.centres[labels]).square().sum(-1)  # (N, k)
        joined = one_hot(labels * k + distance.argmin(1), classes * k).to(rows.dtype)
        count, window = joined.sum(0), self.knobs.window
        members = self.members.flatten().clamp(max=window) + count
        centres = self.centres.flatten(0, 1)
        moved = (joined.T @ rows - count.unsqueeze(1) * centres) / members.clamp(min=1).unsqueeze(1)
        self.centres += moved.view_as(self.centres)
        self.members.copy_(members.view(classes, k))
        weight = self.spread[1].clamp(max=window) + len(rows)
        self.spread[0] += (self._distance(rows) - self.spread[0]) * len(rows) / weight
        self.spread[1] = weight

    def _begin(self, rows: Tensor, belongs: Tensor) -> None:
        """Put the prototypes of classes seen for the first time around their mean. belongs: (N, C)."""
        count = belongs.sum(0)
        fresh = (self.members.sum(1) == 0) & (count > 0)
        mean = belongs.T @ rows / count.clamp(min=1).unsqueeze(1)
        around = mean.unsqueeze(1) + SPLIT * rows.std(0, correction=0) * self.signs
        self.centres.copy_(torch.where(fresh[:, None, None], around, self.centres))

    def _distance(self, rows: Tensor) -> Tensor:
        """Mean squared distance between embeddings (N, D) and prototypes, by the parallel axis theorem."""
        centres, present, middle = self._present()
        away = (centres - middle).square().sum(1) * present
        return (rows - middle).square().sum(1).mean() + away.sum() / present.sum().clamp(min=1)

    def _present(self) -> tuple[Tensor, Tensor, Tensor]:
        """All prototypes (C·k, D), which of them have members, and the mean of those."""
        centres, present = self.centres.flatten(0, 1), self.members.flatten() > 0
        return centres, present, present.to(centres.dtype) @ centres / present.sum().clamp(min=1)
