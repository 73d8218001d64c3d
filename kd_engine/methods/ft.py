"""Factor transfer: the teacher's last map, paraphrased into factors; the student translates its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from kd_engine.knobs import Knobs, knob
from kd_engine.methods import MethodKnobs, Terms, full_precision
from kd_engine.methods._features import Pair, PairMethod, both_maps, pooled_to_smaller, positions, unit_rows
from kd_engine.methods._regressors import BatchNorm
from kd_engine.signals import Shapes, Signals


class FtKnobs(MethodKnobs):
    weight: float = knob(
        200.0,
        "How much it counts in the sum. Published: 200 for the transfer; 1 for the paraphrase, whose loss "
        "is not tiny.",
        low=0,
        high=1e4,
        scale="log",
        live=True,
        unit="weight",
    )
    phase: Literal["paraphrase", "transfer"] = knob(
        "transfer",
        "paraphrase: in a first stage the paraphraser learns the teacher's map, and the student nothing from "
        "it. transfer: in the next stage the student learns the factors. A transfer without a paraphrase "
        "before it takes the factors of a paraphraser that never learned.",
    )
    rate: float = knob(
        0.5,
        "How many factors, as a share of the teacher's channels. The same in both stages.",
        low=0.05,
        high=4,
        scale="log",
        advanced=True,
    )
    factors: Literal["reference", "paper"] = knob(
        "reference",
        "reference: the mean square of the factors at each position, as in the published tables. paper: "
        "every factor for itself.",
        advanced=True,
    )


class Ft(PairMethod):
    """transfer:   mean over samples and elements of |Q(T(f_s)) − Q(P(f_t))|
    paraphrase: mean over samples and elements of (D(P(f_t)) − f_t)²

    with f the map (N, C, H, W) of the last stage, Q(F) the mean over channels of F², flattened and scaled to
    length 1. P, the paraphraser, is three 3×3 convolutions (C_t → C_t → k·C_t → k·C_t) with leaky ReLU (0.1);
    D, which undoes it, three transposed ones; T, the translator, three convolutions (C_s → C_s → k·C_t →
    k·C_t) with BatchNorm and leaky ReLU. Of two unequal factor maps the larger is average-pooled to the
    smaller. One term: `ft`, or `ft_paraphrase`. The transfer is unchanged by a positive scale of either
    factor map.

    Two stages. In the first (RepDistiller: 30 epochs, learning rate 0.01 for ResNets) only the paraphraser
    learns, from the teacher alone; in the second it stands still, and the student and T learn:

      {"stage": "distill", "epochs": 30, "label_weight": 0.0,
       "methods": [{"method": "ft", "phase": "paraphrase", "weight": 1.0}]},
      {"stage": "distill", "epochs": 240, "label_weight": 1.0,
       "methods": [{"method": "ft", "phase": "transfer", "weight": 200.0}]}

    What the paraphraser learned goes on into the next stage because the method's parts persist between stages
    when the same method stands in both. The part that does not learn is frozen. The student's BatchNorm
    statistics do move in the first stage, as it sees the images; nothing else of it does.

    The paper's Q(F) is the whole of F scaled to length 1, without square and mean, as in the authors' code
    (knob `factors`), which paraphrases with mean absolute difference and weighs with 500.
    """

    name: ClassVar[str] = "ft"
    title: ClassVar[str] = "Factor transfer (FT)"
    help: ClassVar[str] = (
        "The teacher's last map is first compressed into factors, which the student then imitates through a "
        "translator. Two stages: paraphrase, then transfer. Its parts are dropped at export."
    )
    family: ClassVar[str] = "features"
    source: ClassVar[str] = (
        "Kim, Park, Kwak: Paraphrasing Complex Network: Network Compression via Factor Transfer, NeurIPS "
        "2018. arXiv:1802.04977; reading of github.com/HobbitLong/RepDistiller"
    )
    caution: ClassVar[str] = (
        "Needs a stage with phase = paraphrase before the one that transfers. Between unlike architectures "
        "the literature saw it fall below the plain student (CIFAR-100, vgg13 to MobileNetV2: 61.8 % against "
        "64.6 %)."
    )
    first_stage: ClassVar[Mapping[str, Any] | None] = {"phase": "paraphrase", "weight": 1.0}
    Knobs: ClassVar[type[Knobs]] = FtKnobs

    def __init__(self, knobs: Any) -> None:
        super().__init__(knobs)
        self.paraphraser = nn.Sequential()
        self.restorer = nn.Sequential()
        self.translator = nn.Sequential()

    def choose(self, student: Shapes, teacher: Shapes) -> tuple[Pair, ...]:
        return both_maps(student, teacher, "last")

    def student_taps(self, student: Shapes, teacher: Shapes) -> tuple[str, ...]:
        return () if self.knobs.phase == "paraphrase" else super().student_taps(student, teacher)

    def problems(self, student: Shapes, teacher: Shapes) -> list[str]:
        if why := super().problems(student, teacher):
            return why
        ((ours, theirs),) = self.choose(student, teacher)
        shapes = student.taps[ours], teacher.taps[theirs]
        if self.knobs.factors == "reference" and min(positions(shape) for shape in shapes) < 2:
            return [
                f"{ours} {shapes[0]} to {theirs} {shapes[1]}: with one position the factors, scaled to "
                "length 1, say nothing; set factors to 'paper'"
            ]
        return []

    def build(self, student: Shapes, teacher: Shapes) -> None:
        super().build(student, teacher)
        ((ours, theirs),) = self.pairs
        mine, wide = student.taps[ours][0], teacher.taps[theirs][0]
        few = max(1, int(wide * self.knobs.rate))
        self.paraphraser = nn.Sequential(
            *layer(nn.Conv2d, wide, wide), *layer(nn.Conv2d, wide, few), *layer(nn.Conv2d, few, few)
        )
        self.restorer = nn.Sequential(
            *layer(nn.ConvTranspose2d, few, few),
            *layer(nn.ConvTranspose2d, few, wide),
            *layer(nn.ConvTranspose2d, wide, wide),
        )
        self.translator = nn.Sequential(
            *layer(nn.Conv2d, mine, mine, norm=True),
            *layer(nn.Conv2d, mine, few, norm=True),
            *layer(nn.Conv2d, few, few, norm=True),
        )
        learns = self.knobs.phase == "paraphrase"
        self.paraphraser.requires_grad_(learns)
        self.restorer.requires_grad_(learns)
        self.translator.requires_grad_(not learns)

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        ((ours, theirs),) = self.pairs
        f_t = full_precision(teacher.taps[theirs])
        factors = full_precision(self.paraphraser(f_t))
        if self.knobs.phase == "paraphrase":
            return {"ft_paraphrase": F.mse_loss(full_precision(self.restorer(factors)), f_t)}
        translated = full_precision(self.translator(full_precision(student.taps[ours])))
        return {"ft": distance(translated, factors.detach(), self.knobs.factors)}


def distance(student: Tensor, teacher: Tensor, factors: str) -> Tensor:
    """The mean absolute difference of two factor maps (N, k, H, W), each sample's of length 1; 0 when
    equal."""
    ours, theirs = (directions(f, factors) for f in pooled_to_smaller(student, teacher))
    return (ours - theirs).abs().mean()


def directions(factor: Tensor, factors: str) -> Tensor:
    """A factor map (N, k, H, W) as rows of length 1 (zeros stay zero): (N, H·W), or (N, k·H·W) as the paper
    has it."""
    energy = factor if factors == "paper" else factor.square().mean(1)
    return unit_rows(energy.flatten(1))


def layer(kind: type[nn.Module], channels: int, out: int, norm: bool = False) -> list[nn.Module]:
    """A 3×3 (transposed) convolution, BatchNorm where asked for, leaky ReLU: as in RepDistiller."""
    parts: list[nn.Module] = [kind(channels, out, 3, 1, 1)]
    if norm:
        parts.append(BatchNorm(out))
    return [*parts, nn.LeakyReLU(0.1)]
