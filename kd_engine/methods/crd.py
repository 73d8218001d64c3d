"""Contrastive representation distillation: the student's embedding of an image is near the teacher's of the
same image and far from those of other classes.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from kd_engine.knobs import Knobs, knob
from kd_engine.methods import MethodKnobs, Terms, full_precision
from kd_engine.methods._features import Pair, PairMethod, both_embeddings, exact_products, unit_rows
from kd_engine.signals import Shapes, Signals

EPS = 1e-7  # the reference's, in both denominators


class CrdKnobs(MethodKnobs):
    weight: float = knob(
        0.8,
        "How much the contrast counts in the sum. Published: 0.8.",
        low=0,
        high=100,
        scale="log",
        live=True,
        unit="weight",
    )
    negatives: int = knob(
        16384,
        "How many samples of other classes each sample is held against. Published: 16384, of 50,000. Never "
        "more than there are samples.",
        low=1,
        high=65536,
        scale="log",
        unit="samples",
    )
    temperature: float = knob(
        0.07,
        "Sharpens the similarities of embeddings. Published: 0.07.",
        low=0.02,
        high=1,
        scale="log",
        advanced=True,
    )
    momentum: float = knob(
        0.5,
        "Share of a sample's remembered embedding that is kept when the sample is seen again.",
        low=0,
        high=0.99,
        advanced=True,
    )
    dimensions: int = knob(
        128, "Dimensions of the space in which both embeddings are compared.", low=2, high=2048, advanced=True
    )


class Crd(PairMethod):
    """Noise-contrastive estimation in both directions. With unit vectors s_i = ê_s(embedding of the student)
    and t_i = ê_t(of the teacher), each ê a trained linear layer; M_s, M_t what was remembered of every sample
    of the training part (n rows); and for sample i the index set {i, K negatives}:

    d(a, m) = exp(a · m / τ) / Z,  Z = n · mean of exp(a · m / τ) over the first batch, then fixed
    loss(a, M) = −1/N Σ_i [ log d(a_i, M_i) / (d(a_i, M_i) + K/n + ε)
                            + Σ_k log (K/n) / (d(a_i, M_k) + K/n + ε) ]
    crd = loss(s, M_t) + loss(t, M_s)

    Afterwards each row of the batch becomes the unit vector along μ·row + (1 − μ)·embedding. The banks, Z and
    the labels are buffers: saved with a run (2 · n · 128 numbers), changed in training mode only.

    Negatives are drawn anew at every step for every sample, evenly and with replacement among the samples
    that are not known to be of its class, as RepDistiller's `mode="exact"` does (which replaces only where it
    must). Labels become known as samples are first seen; a withheld label never does, and such a sample may
    be anybody's negative, and shuns itself alone. Where all are of one class, a sample shuns itself alone.
    K is at most n: more draws than samples would only repeat them. In evaluation mode negatives stand at even
    distances instead, so that the same signals give the same loss.

    Scores against the whole bank (N × n numbers, twice) are computed and K of each row picked. That gives the
    same numbers as RepDistiller's gathering of N × K × 128, from a fortieth of the memory on CIFAR.
    """

    name: ClassVar[str] = "crd"
    title: ClassVar[str] = "Contrastive representation distillation (CRD)"
    help: ClassVar[str] = (
        "Student and teacher agree on which image they see: near for the same image, far for images of other "
        "classes, thousands of which are remembered."
    )
    family: ClassVar[str] = "relations"
    source: ClassVar[str] = (
        "Tian, Krishnan, Isola: Contrastive Representation Distillation, ICLR 2020. arXiv:1910.10699; "
        "reading of github.com/HobbitLong/RepDistiller"
    )
    Knobs: ClassVar[type[Knobs]] = CrdKnobs
    hard_targets: ClassVar[bool] = True
    wants: ClassVar[str] = "embeddings in both models"
    depends_on_order: ClassVar[bool] = True  # negatives are drawn row by row,
    alone: ClassVar[bool] = True  # with random numbers

    embed_student: nn.Linear
    embed_teacher: nn.Linear
    bank_student: Tensor
    bank_teacher: Tensor
    scale: Tensor
    labels: Tensor

    def choose(self, student: Shapes, teacher: Shapes) -> tuple[Pair, ...]:
        return both_embeddings(student, teacher)

    def problems(self, student: Shapes, teacher: Shapes) -> list[str]:
        found = super().problems(student, teacher)
        if student.samples < 2:
            found.append(
                "it remembers every sample: it needs sample numbers, which a run gives, and two samples"
            )
        return found

    def build(self, student: Shapes, teacher: Shapes) -> None:
        super().build(student, teacher)
        width, n = self.knobs.dimensions, student.samples
        self.embed_student = nn.Linear(student.taps["embedding"][0], width)
        self.embed_teacher = nn.Linear(teacher.taps["embedding"][0], width)
        bound = 1 / math.sqrt(width / 3)
        for name in ("bank_student", "bank_teacher"):
            self.register_buffer(name, torch.empty(n, width).uniform_(-bound, bound))
        self.register_buffer("scale", torch.full((2,), -1.0))  # Z against either bank; below 0: not yet known
        self.register_buffer("labels", torch.full((n,), -1))

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        samples = student.samples
        assert samples is not None  # `problems` asked for them
        ours = self._embedded(self.embed_student, student)
        theirs = self._embedded(self.embed_teacher, teacher)
        if self.training:
            self.labels[samples] = target
        index = torch.cat([samples.unsqueeze(1), self.draw(samples)], 1)
        with exact_products(ours):  # half precision would blur exp(x / 0.07)
            against_teacher = scores(ours, self.bank_teacher, index, self.knobs.temperature)
            against_student = scores(theirs, self.bank_student, index, self.knobs.temperature)
        n = len(self.labels)
        fresh = n * torch.stack([against_teacher.detach().mean(), against_student.detach().mean()])
        scale = torch.where(self.scale < 0, fresh, self.scale)
        loss = contrast(against_teacher / scale[0], n) + contrast(against_student / scale[1], n)
        if self.training:
            self._remember(samples, ours.detach(), theirs.detach(), scale)
        return {"crd": loss}

    def draw(self, samples: Tensor) -> Tensor:
        """Negatives for a batch (N,), as sample numbers (N, K)."""
        count = min(self.knobs.negatives, len(self.labels))
        if self.training:
            lots = torch.rand(len(samples), count, device=samples.device)
        else:
            even = (torch.arange(count, device=samples.device) + 0.5) / count
            lots = even.expand(len(samples), count)
        return negatives(self.labels, samples, lots)

    def _embedded(self, layer: nn.Linear, signals: Signals) -> Tensor:
        return unit_rows(full_precision(layer(full_precision(signals.taps["embedding"]))))

    def _remember(self, samples: Tensor, ours: Tensor, theirs: Tensor, scale: Tensor) -> None:
        keep = self.knobs.momentum
        with torch.no_grad():
            self.scale.copy_(scale)
            for bank, seen in ((self.bank_student, ours), (self.bank_teacher, theirs)):
                bank[samples] = unit_rows(keep * bank[samples] + (1 - keep) * seen).to(bank.dtype)


def negatives(labels: Tensor, samples: Tensor, lots: Tensor) -> Tensor:
    """For each of `samples` (N,), numbers of samples that are not known to be of its class, (N, K).

    labels: (n,) of all, below 0 where not known. lots: (N, K) in [0, 1); equal shares of it go to all that
    may be drawn. Sorted by label, those that may not are one block in each row, which the draw leaps over.
    """
    order = torch.argsort(labels, stable=True)
    place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    ranked, own = labels[order], labels[samples].contiguous()
    first, after = torch.searchsorted(ranked, own), torch.searchsorted(ranked, own, right=True)
    alone = (own < 0) | (after - first == len(labels))
    first = torch.where(alone, place[samples], first).unsqueeze(1)
    block = torch.where(alone, 1, after - first.squeeze(1)).unsqueeze(1)
    free = len(labels) - block
    at = torch.minimum((lots * free).long(), free - 1)  # rounding may reach the end
    return order[torch.where(at < first, at, at + block)]


def scores(anchors: Tensor, bank: Tensor, index: Tensor, temperature: float) -> Tensor:
    """exp(a_i · m_k / τ), (N, K): anchors (N, D), bank (n, D) without gradient, index (N, K) of its rows."""
    kept = bank.detach().clone()  # the bank is written to before the backward pass
    return (anchors @ kept.T / temperature).gather(1, index).exp()


def contrast(ratio: Tensor, n: int) -> Tensor:
    """The noise-contrastive loss of a batch: ratio (N, 1 + K), the true one first; see `Crd`. A scalar."""
    noise = (ratio.shape[1] - 1) / n
    true = (ratio[:, 0] / (ratio[:, 0] + noise + EPS)).log()
    false = (noise / (ratio[:, 1:] + noise + EPS)).log()
    return -(true.sum() + false.sum()) / len(ratio)
