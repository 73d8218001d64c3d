"""Hard labels: the student learns the one class that the teacher would choose."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from kd_engine.knobs import Knobs, knob
from kd_engine.methods import Method, MethodKnobs, Terms, full_precision
from kd_engine.signals import Signals


class HardLabelKnobs(MethodKnobs):
    weight: float = knob(
        0.5,
        "How much the teacher's choices count in the sum. Published: 0.5 beside 0.5 for the labels.",
        low=0,
        high=10,
        scale="log",
        live=True,
        unit="weight",
    )


class HardLabel(Method):
    """Cross-entropy of the student to the teacher's most likely class: mean of −log softmax(z_s)[argmax z_t].

    Logits (..., C), mean over all leading dimensions, nats. No temperature, and not 0 when student equals
    teacher. DeiT computes it on a second output made for it, the distillation token; here it is the student's
    one output.
    """

    name: ClassVar[str] = "hard-label"
    title: ClassVar[str] = "Hard labels"
    help: ClassVar[str] = (
        "The teacher's top class is the label, also where the sample has none. Nothing to tune but the "
        "weight."
    )
    family: ClassVar[str] = "logits"
    source: ClassVar[str] = (
        "Touvron et al.: Training data-efficient image transformers & distillation through attention, 2021, "
        "section 4. arXiv:2012.12877"
    )
    Knobs: ClassVar[type[Knobs]] = HardLabelKnobs

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        logits = full_precision(student.logits).flatten(0, -2)
        return {"hard-label": F.cross_entropy(logits, teacher.logits.flatten(0, -2).argmax(-1))}
