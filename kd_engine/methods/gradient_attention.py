"""Gradient-based attention transfer: the student's loss is sensitive to the pixels that the teacher's is."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from kd_engine.knobs import Knobs, knob
from kd_engine.methods import Method, MethodKnobs, Terms, full_precision
from kd_engine.sensitivity import GRADIENT, INPUT, believed, sensitivity
from kd_engine.signals import Shapes, Signals


class GradientAttentionKnobs(MethodKnobs):
    weight: float = knob(
        0.04,
        "How much the gradients count in the sum: half the β of the paper's formula. The loss is small (on "
        "digits 0.1 to 0.6, falling), so that only weights near 1 are felt beside the labels.",
        low=0,
        high=1e3,
        scale="log",
        live=True,
        unit="weight",
    )


class GradientAttention(Method):
    """mean over samples of ‖J_s − J_t‖², J = ∂CE/∂x (N, 3, H, W): how each model's cross-entropy to the label
    changes with each pixel of the normalised image. Squared nats per unit of input; 0 when equal.

    Where a label is withheld, the teacher's top class stands in, for both models. The student's gradient is
    taken in training mode, where BatchNorm makes a sample's gradient depend on the batch; the paper's
    networks had none.

    The paper writes β/2 · ‖J_s − J_t‖₂, and derives (its equation 5) the gradient of the square, which is
    what is here: set half its β as the weight. Its horizontal-flip symmetry is not included, and the authors'
    code has never contained this method. A teacher that is sure of its training images has gradients close to
    zero: then this is the double backpropagation of Drucker and LeCun, which the paper measures beside it.

    Cost: gradients through gradients. Measured on a CPU at batch 128, a step takes 6 times as long with
    resnet8, 4 times with vit-tiny; the teacher, which runs backwards too, twice as long. In half precision
    small gradients lose digits: use 32 bits.
    """

    name: ClassVar[str] = "gradient-at"
    title: ClassVar[str] = "Gradient-based attention transfer"
    help: ClassVar[str] = (
        "The student's loss should react to the same pixels as the teacher's. Any two models; every step "
        "takes several times as long."
    )
    family: ClassVar[str] = "attention"
    source: ClassVar[str] = (
        "Zagoruyko, Komodakis: Paying More Attention to Attention, ICLR 2017, section 3.2. arXiv:1612.03928; "
        "no reference code"
    )
    caution: ClassVar[str] = (
        "In the paper it stays behind activation-based transfer ('at'), at several times the cost."
    )
    Knobs: ClassVar[type[Knobs]] = GradientAttentionKnobs
    hard_targets: ClassVar[bool] = True
    alone: ClassVar[bool] = True  # a second derivative needs the slower kernels of attention

    def student_taps(self, student: Shapes, teacher: Shapes) -> tuple[str, ...]:
        return (INPUT.name,)

    def teacher_taps(self, student: Shapes, teacher: Shapes) -> tuple[str, ...]:
        return (GRADIENT,)

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        labels = believed(target, teacher.logits)
        ours = sensitivity(student.taps[INPUT.name], student.logits, labels, create_graph=True)
        gap = full_precision(ours) - full_precision(teacher.taps[GRADIENT])
        return {"gradient-at": gap.square().flatten(1).sum(1).mean()}
