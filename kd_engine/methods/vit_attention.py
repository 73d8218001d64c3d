"""Attention of transformers: the student's blocks look where the teacher's look, and relate tokens alike."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from kd_engine.knobs import Knobs, knob
from kd_engine.methods import Method, MethodKnobs, Terms, full_precision
from kd_engine.signals import Shapes, Signals
from kd_engine.taps import ATTENTION, VALUE

Heads = Literal["mean", "match"]


class VitAttentionKnobs(MethodKnobs):
    weight: float = knob(
        1.0,
        "How much the attention counts in the sum. Published (MiniLM): 1, as the only loss.",
        low=0,
        high=1e4,
        scale="log",
        live=True,
        unit="weight",
    )
    layers: Literal["last", "uniform", "all"] = knob(
        "last",
        "Which blocks are compared: the last of both models (MiniLM); each of the student's with the "
        "teacher's at the same share of the depth (TinyBERT); or one to one, for equal numbers of blocks.",
    )
    heads: Heads = knob(
        "match",
        "How unequal numbers of heads meet. match: neighbours are averaged in the model that has more, so "
        "that each head has a partner; one number must divide the other. mean: all heads of a block are "
        "averaged first.",
    )
    values: float = knob(
        0.0,
        "How much the relations between the tokens' values count beside the attention weights. 0: not at "
        "all. Published (MiniLM): 1. Both models must let their values be heard.",
        low=0,
        high=1e3,
        scale="log",
        unit="weight",
    )


class Meeting(NamedTuple):
    """A block of the student and the teacher's block that it imitates, as `block6`."""

    ours: str
    theirs: str


class VitAttention(Method):
    """With A (N, heads, T, T) a block's attention weights, each row a distribution over the T tokens, and
    R = softmax over the last dimension of V Vᵀ / √d, for the block's values V (N, heads, T, d):

    attention: mean over samples, heads and rows of KL(A_t ‖ A_s)
    values:    mean over samples, heads and rows of KL(R_t ‖ R_s), times the knob `values`

    in nats; 0 when equal. Widths and depths may differ, the number of tokens T not. Heads that are averaged
    (see the knob) are averaged as distributions, after the softmax. Terms `vit-attention_block6` and
    `vit-attention_values_block6`, called after the student's block; the method's loss is their sum.

    MiniLM compares the last blocks, both terms with weight 1, and has as many heads on both sides. TinyBERT
    compares the scores before the softmax by their mean square, of every student's block m with the
    teacher's m·K_t/K_s; here the distributions are compared throughout, for only they can be heard, and a
    fractional block is rounded up, so that last meets last. Probabilities below 1e-12 (in half precision:
    below its smallest normal number) count as that, because a logarithm of 0 has no gradient.
    """

    name: ClassVar[str] = "vit-attention"
    title: ClassVar[str] = "Attention of transformers (MiniLM, TinyBERT)"
    help: ClassVar[str] = (
        "A transformer student spreads its attention over the tokens as the teacher does. Both must cut the "
        "image into as many tokens."
    )
    family: ClassVar[str] = "attention"
    source: ClassVar[str] = (
        "Wang et al.: MiniLM: Deep Self-Attention Distillation, NeurIPS 2020. arXiv:2002.10957; "
        "Jiao et al.: TinyBERT, Findings of EMNLP 2020. arXiv:1909.10351; after Zagoruyko, Komodakis: Paying "
        "More Attention to Attention, ICLR 2017. arXiv:1612.03928"
    )
    Knobs: ClassVar[type[Knobs]] = VitAttentionKnobs

    def __init__(self, knobs: Any) -> None:
        super().__init__(knobs)
        self.meetings: tuple[Meeting, ...] = ()

    def student_taps(self, student: Shapes, teacher: Shapes) -> tuple[str, ...]:
        return self._taps([pair.ours for pair in self._choose(student, teacher)])

    def teacher_taps(self, student: Shapes, teacher: Shapes) -> tuple[str, ...]:
        return self._taps([pair.theirs for pair in self._choose(student, teacher)])

    def problems(self, student: Shapes, teacher: Shapes) -> list[str]:
        ours, theirs = blocks(student), blocks(teacher)
        if not ours or not theirs:
            lacking = " and ".join(
                who for who, found in (("the student", ours), ("the teacher", theirs)) if not found
            )
            return [f"no attention weights can be heard in {lacking}; use a method on logits, such as 'kd'"]
        if self.knobs.layers == "all" and len(ours) != len(theirs):
            return [
                f"the student has {len(ours)} blocks and the teacher {len(theirs)}: layers 'all' needs as "
                "many; use 'uniform' or 'last'"
            ]
        found = []
        for pair in self._choose(student, teacher):
            found += self._misfits(pair, student, teacher)
        return found

    def build(self, student: Shapes, teacher: Shapes) -> None:
        self.meetings = self._choose(student, teacher)

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        heads: Heads = self.knobs.heads
        terms: Terms = {}
        for ours, theirs in self.meetings:
            pair = student.attention[ours], teacher.attention[theirs]
            terms[f"{self.name}_{ours}"] = divergence(*pair, heads)
        for ours, theirs in self.meetings if self.knobs.values else ():
            related = relations(student.taps[VALUE + ours]), relations(teacher.taps[VALUE + theirs])
            terms[f"{self.name}_values_{ours}"] = divergence(*related, heads) * self.knobs.values
        return terms

    def _choose(self, student: Shapes, teacher: Shapes) -> tuple[Meeting, ...]:
        ours, theirs = blocks(student), blocks(teacher)
        if not ours or not theirs:
            return ()
        if self.knobs.layers == "last":
            return (Meeting(ours[-1], theirs[-1]),)
        # -(-a // b): a / b, rounded up
        partners = [-(-(m + 1) * len(theirs) // len(ours)) - 1 for m in range(len(ours))]
        return tuple(Meeting(name, theirs[k]) for name, k in zip(ours, partners, strict=True))

    def _taps(self, chosen: list[str]) -> tuple[str, ...]:
        names = [ATTENTION + name for name in chosen]
        return tuple(names + [VALUE + name for name in chosen if self.knobs.values])

    def _misfits(self, pair: Meeting, student: Shapes, teacher: Shapes) -> list[str]:
        (heads, tokens, _), (more, others, _) = student.attention[pair.ours], teacher.attention[pair.theirs]
        what = f"{pair.ours} to the teacher's {pair.theirs}"
        found = []
        if tokens != others:
            found.append(
                f"{what}: the student has {tokens} tokens and the teacher {others}, so that their attention "
                "has other places; give both the same patch"
            )
        if self.knobs.heads == "match" and max(heads, more) % min(heads, more):
            found.append(f"{what}: {heads} heads cannot be matched evenly with {more}; set heads to 'mean'")
        if self.knobs.values:
            sides = (("the student", student, pair.ours), ("the teacher", teacher, pair.theirs))
            found += [
                f"{what}: the values of {who} cannot be heard; set values to 0"
                for who, shapes, name in sides
                if VALUE + name not in shapes.taps
            ]
        return found


def blocks(shapes: Shapes) -> list[str]:
    """The blocks whose attention weights (heads, T, T) can be heard, first one first."""
    names = [
        name
        for name, shape in shapes.attention.items()
        if re.fullmatch(r"block\d+", name) and len(shape) == 3 and shape[1] == shape[2]
    ]
    return sorted(names, key=lambda name: int(name.removeprefix("block")))


def relations(values: Tensor) -> Tensor:
    """How alike the tokens of each head are: softmax of V Vᵀ / √d for values V (N, heads, T, d), as
    (N, heads, T, T), float32 at least."""
    exact = full_precision(values)
    scores: Tensor = exact @ exact.transpose(-2, -1) * exact.shape[-1] ** -0.5
    return scores.softmax(-1)


def divergence(student: Tensor, teacher: Tensor, heads: Heads) -> Tensor:
    """Mean over samples, heads and rows of KL(teacher ‖ student), both (N, heads, T, T) of distributions in
    the last dimension; numbers of heads are made equal as `heads` says. A scalar, nats."""
    least = max(1e-12, torch.finfo(student.dtype).tiny)
    number = 1 if heads == "mean" else min(student.shape[1], teacher.shape[1])
    ours, theirs = (grouped(full_precision(weights), number) for weights in (student, teacher))
    gap = theirs.clamp_min(least).log() - ours.clamp_min(least).log()
    return (theirs * gap).sum(-1).mean()


def grouped(weights: Tensor, number: int) -> Tensor:
    """(N, heads, T, T) as (N, number, T, T): neighbouring heads averaged."""
    if weights.shape[1] == number:
        return weights
    samples, _, *square = weights.shape
    return weights.reshape(samples, number, -1, *square).mean(2)
