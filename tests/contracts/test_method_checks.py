"""That the checks on methods can fail: toys, each broken in a way that has bitten a public project."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kd_engine.errors import KdError
from kd_engine.methods import Method, Terms, create
from kd_engine.registry import discover
from kd_engine.signals import Shapes, Signals
from tests.contracts import test_methods as contract

GOOD = """
from __future__ import annotations

from torch import Tensor

from kd_engine.methods import Method, Terms, full_precision
from kd_engine.signals import Signals


class Toy(Method):
    name = "toy"
    title = "Toy"
    help = "Mean squared difference of the logits."
    source = "a test"

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        difference = full_precision(student.logits) - full_precision(teacher.logits)
        return {"toy": difference.square().mean()}
"""


def test_a_method_dropped_into_a_folder_is_found_created_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "toy.py").write_text(GOOD)
    monkeypatch.setenv("KD_PLUGINS", str(tmp_path))
    plugin = discover("methods").plugins["toy"]
    assert issubclass(plugin, Method)
    contract.check_method(plugin)
    ones, zeros = Signals(torch.ones(2, 3)), Signals(torch.zeros(2, 3))
    assert create("toy", weight=2.0)(ones, zeros, torch.zeros(2))["toy"].item() == 1.0


def test_a_broken_file_is_listed_with_its_reason_and_takes_nothing_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "bad.py").write_text("import no_such_package_anywhere\n")
    (tmp_path / "methods" / "good.py").write_text(GOOD)
    monkeypatch.setenv("KD_PLUGINS", str(tmp_path))
    found = discover("methods")
    assert {"kd", "toy"} <= found.plugins.keys()
    (broken,) = found.broken
    assert broken.module.endswith("bad.py")
    assert "no_such_package_anywhere" in broken.reason
    assert "kd" in create("kd")(Signals(torch.ones(2, 3)), Signals(torch.ones(2, 3)), torch.zeros(2))


def test_an_unknown_method_gets_a_suggestion() -> None:
    with pytest.raises(KdError, match="did you mean 'kd'"):
        create("kdd")


class Toy(Method):
    name = "toy"
    title = help = source = "a test"

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        return {"toy": (student.logits.float() - teacher.logits.float()).square().mean()}


class HiddenParts(Toy):
    def build(self, student: Shapes, teacher: Shapes) -> None:
        self.parts = [nn.Linear(student.classes, teacher.classes)]

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        return {"toy": (self.parts[0](student.logits.float()) - teacher.logits.float()).square().mean()}


class UnusedPart(Toy):
    def build(self, student: Shapes, teacher: Shapes) -> None:
        self.part = nn.Linear(2, 2)


class Undeclared(Toy):
    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        return {"toy": student.taps["embedding"].float().square().mean()}


class TeachesTheTeacher(Toy):
    def forward(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        return self.terms(student, teacher, target)


class LearnsNothing(Toy):
    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        return super().terms(student.detach(), teacher, target)


class Overflows(Toy):
    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        return {"toy": (student.logits - teacher.logits).square().mean()}


class Ordered(Toy):
    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        steps = student.logits.float().diff(dim=0) - teacher.logits.float().diff(dim=0)
        return {"toy": steps.square().mean()}


class Dreams(Toy):
    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        return {"toy": (student.logits.float() + torch.rand(())).square().mean()}


class InPlace(Toy):
    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        return {"toy": (student.logits.float() - teacher.logits.relu_().float()).square().mean()}


class PerSample(Toy):
    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        return {"toy": student.logits.float().square().mean(1)}


class Weighted(Toy):
    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        return {"toy": self.knobs.weight * student.logits.float().square().mean()}


class NamesWhatItLeaves(Toy):
    needs_teacher = False

    def student_taps(self, student: Shapes, teacher: Shapes) -> tuple[str, ...]:
        return ("embedding",)


class NeedsOneAfterAll(Toy):
    needs_teacher = False

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        return {"toy": (student.logits.float() - teacher.logits.float()).abs().mean()}


class Unexplained(Toy):
    source = ""


class Gambles(Toy):
    """Draws random numbers beside others who may."""

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        terms = super().terms(student, teacher, target)
        return {name: term * (1 + torch.rand(())) for name, term in terms.items()}


class Shy(Toy):
    """Says that it must learn alone, and holds up others for nothing."""

    alone = True


BROKEN = {
    HiddenParts: contract.check_parts_are_registered_and_move,
    UnusedPart: contract.check_gradient_reaches_the_student_and_its_own_parts_only,
    TeachesTheTeacher: contract.check_gradient_reaches_the_student_and_its_own_parts_only,
    NamesWhatItLeaves: contract.check_gradient_reaches_the_student_and_its_own_parts_only,
    NeedsOneAfterAll: contract.check_needs_no_teacher_where_it_says_so,
    LearnsNothing: contract.check_gradient_reaches_the_student_and_its_own_parts_only,
    Undeclared: contract.check_builds_from_defaults_to_finite_scalars,
    PerSample: contract.check_builds_from_defaults_to_finite_scalars,
    Weighted: contract.check_builds_from_defaults_to_finite_scalars,
    Overflows: contract.check_half_precision_does_not_overflow,
    Ordered: contract.check_batch_order_does_not_matter,
    Dreams: contract.check_is_repeatable,
    InPlace: contract.check_is_repeatable,
    Unexplained: contract.check_describes_itself,
    Gambles: contract.check_says_whether_it_must_learn_alone,
    Shy: contract.check_says_whether_it_must_learn_alone,
}


@pytest.mark.parametrize("plugin", BROKEN, ids=lambda plugin: plugin.__name__)
def test_a_broken_promise_is_caught_by_its_check(plugin: type[Method]) -> None:
    with pytest.raises(AssertionError):
        BROKEN[plugin](plugin)


def test_the_sound_toy_passes_and_an_ordered_method_may_say_so() -> None:
    contract.check_method(Toy)
    Said = type("Said", (Ordered,), {"depends_on_order": True})
    contract.check_batch_order_does_not_matter(Said)
