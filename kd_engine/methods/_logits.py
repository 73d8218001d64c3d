"""What methods on logits share: a temperature that may change over a run, and standardised logits."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kd_engine.knobs import Knobs, knob
from kd_engine.methods import Method, MethodKnobs, full_precision
from kd_engine.schedules import between
from kd_engine.signals import Signals

Heat = float | Tensor  # a temperature: one for all samples, or one for each, (N, 1)


class ScaleKnobs(MethodKnobs):
    """For methods on logits whose temperatures are not one setting: some have several, one learns it."""

    standardise: bool = knob(
        False,
        "Subtract the mean of each sample's logits and divide by their deviation first, so that the student "
        "copies the teacher's ranking and not its scale (Sun et al. 2024). Published with temperature 2 and "
        "weight 9.",
        advanced=True,
    )


class LogitKnobs(ScaleKnobs):
    """The settings of a method that compares logits softened by one temperature."""

    temperature: float = knob(
        4.0,
        "Softens both distributions: at 1 they are as sharp as in use; higher shows more of how the teacher "
        "ranks the wrong classes.",
        low=1,
        high=20,
        scale="log",
        live=True,
    )
    temperature_schedule: Literal["constant", "linear", "cosine", "warm-up", "confidence"] = knob(
        "constant",
        "How the temperature moves: linear or cosine from itself to the other end over the stage; warm-up "
        "from the other end to itself over the first tenth; confidence: for each sample between the other "
        "end (teacher unsure) and itself (teacher sure).",
        advanced=True,
    )
    temperature_final: float = knob(
        1.0,
        "The temperature's other end, for schedules.",
        low=1,
        high=20,
        scale="log",
        advanced=True,
    )


class LogitMethod(Method):
    """Base of methods on softened logits. `Knobs` derives from LogitKnobs, or from ScaleKnobs where `heat` is
    not asked for."""

    Knobs: ClassVar[type[Knobs]] = LogitKnobs

    def logits(self, student: Signals, teacher: Signals) -> tuple[Tensor, Tensor]:
        """Both models' logits (N, C), leading dimensions flattened, in float32 or better; standardised if
        asked for."""
        both = (full_precision(signals.logits).flatten(0, -2) for signals in (student, teacher))
        ours, theirs = (standardised(z) if self.knobs.standardise else z for z in both)
        return ours, theirs

    def heat(self, teacher: Tensor) -> Heat:
        """The temperature in force. teacher: its logits (N, C)."""
        knobs = self.knobs
        if knobs.temperature_schedule == "confidence":
            unsure: float = knobs.temperature_final
            sure: float = knobs.temperature
            return unsure + (sure - unsure) * confidence(teacher)
        return between(
            knobs.temperature_schedule, self.clock, knobs.temperature, knobs.temperature_final, warmup=0.1
        )


def confidence(logits: Tensor) -> Tensor:
    """The highest probability of each row of logits (N, C), as (N, 1)."""
    return full_precision(logits).softmax(-1).amax(-1, keepdim=True)


def standardised(logits: Tensor) -> Tensor:
    """Each row of logits (N, C) with mean 0 and deviation 1, the deviation unbiased, plus 1e-7.

    Sun, Ren, Li, Wang, Cao: Logit Standardization in Knowledge Distillation, CVPR 2024. arXiv:2403.01427; the
    reading of github.com/sunshangquan/logit-standardization-KD.
    """
    spread, mean = torch.std_mean(logits, dim=-1, keepdim=True)
    return (logits - mean) / (spread + 1e-7)


def soft_targets(student: Tensor, teacher: Tensor, temperature: Heat) -> Tensor:
    """KL from teacher to student at `temperature`, times its square so that gradients keep their scale.

    student, teacher: logits (..., C). Returns a scalar, nats, the mean over all leading dimensions (PyTorch's
    "batchmean", not "mean", which would be smaller by a factor C); 0 when equal, unchanged by a constant
    added to one row. Half precision is computed in float32. Hinton, Vinyals, Dean 2015, section 2.
    """
    ours = F.log_softmax(full_precision(student).flatten(0, -2) / temperature, dim=-1)
    theirs = F.log_softmax(full_precision(teacher).flatten(0, -2) / temperature, dim=-1)
    if isinstance(temperature, Tensor):
        each = F.kl_div(ours, theirs, reduction="none", log_target=True).sum(-1, keepdim=True)
        return (each * temperature**2).mean()
    kl = F.kl_div(ours, theirs, reduction="sum", log_target=True)
    return kl * (temperature**2 / ours.shape[0])
