"""What every distillation method promises. Runs over all that `discover` finds, also in $KD_PLUGINS.

`check_method(plugin)` runs every check on one class; a plug-in's author can call it from a test of their own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd_engine.activity import is_activity, named, place_of
from kd_engine.conflicts import mixing_refusal
from kd_engine.errors import KdError
from kd_engine.knobs import knobs_of
from kd_engine.methods import Method, Terms
from kd_engine.registry import discover
from kd_engine.sensitivity import GRADIENT, INPUT
from kd_engine.signals import Classifier, Shapes, Signals
from kd_engine.taps import ATTENTION

N, CLASSES = 6, 5
SAMPLES = 2 * N  # in the training part that the batch comes from
Case = tuple[Signals, Signals, Tensor]


# ---- toy signals: a pair of convolutional networks, and a pair of transformers


def convnets(scale: float = 1.0, dtype: torch.dtype = torch.float32) -> Case:
    """A student and a teacher with other widths and, at the last stage, another size."""
    generator = torch.Generator().manual_seed(7)
    student = {"stem": (4, 16, 16), "stage1": (4, 16, 16), "stage2": (8, 8, 8), "stage3": (16, 4, 4)}
    teacher = {"stem": (8, 16, 16), "stage1": (8, 16, 16), "stage2": (16, 8, 8), "stage3": (32, 8, 8)}
    ours = _signals({**student, "embedding": (16,), **_before(student)}, {}, scale, dtype, generator)
    theirs = _signals({**teacher, "embedding": (32,), **_before(teacher)}, {}, scale, dtype, generator)
    return ours, theirs, torch.randint(CLASSES, (N,), generator=generator)


def _before(taps: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The stages of `taps`, as they were before their last activation."""
    return {name.replace("stage", "preact"): shape for name, shape in taps.items() if "stage" in name}


def siblings(scale: float = 1.0, dtype: torch.dtype = torch.float32) -> Case:
    """A student and a teacher of the same widths, as resnet20 and resnet56 are."""
    generator = torch.Generator().manual_seed(7)
    taps = {"stem": (8, 16, 16), "stage1": (8, 16, 16), "stage2": (16, 8, 8), "embedding": (16,)}
    ours, theirs = (_signals(taps, {}, scale, dtype, generator) for _ in range(2))
    return ours, theirs, torch.randint(CLASSES, (N,), generator=generator)


def transformers(scale: float = 1.0, dtype: torch.dtype = torch.float32) -> Case:
    """A student and a teacher with other widths and heads, on the same 17 tokens."""
    generator = torch.Generator().manual_seed(7)
    blocks = [f"block{k}" for k in (1, 2, 3)]
    sides = []
    for width, heads in ((8, 2), (16, 4)):
        taps = {**dict.fromkeys(blocks, (17, width)), "embedding": (width,)}
        sides.append(_signals(taps, dict.fromkeys(blocks, (heads, 17, 17)), scale, dtype, generator))
    return sides[0], sides[1], torch.randint(CLASSES, (N,), generator=generator)


CASES = (convnets, siblings, transformers)


def _signals(
    taps: Any, attention: Any, scale: float, dtype: torch.dtype, generator: torch.Generator
) -> Signals:
    def leaf(*shape: int, first: int = N) -> Tensor:
        return (scale * torch.randn(first, *shape, generator=generator)).to(dtype).requires_grad_()

    weights = {name: leaf(*shape).detach().softmax(-1).requires_grad_() for name, shape in attention.items()}
    maps = {name: leaf(*shape) for name, shape in taps.items()}
    samples = torch.randperm(SAMPLES, generator=generator)[:N]
    last = Classifier(leaf(*taps["embedding"], first=CLASSES), leaf(first=CLASSES))
    return Signals(leaf(CLASSES), maps, weights, last, samples)


def _select(signals: Signals, wanted: tuple[str, ...]) -> Signals:
    """Only what was asked for, as a session or a teacher's cache gives it."""
    taps = {name: tensor for name, tensor in signals.taps.items() if name in wanted}
    for name in filter(is_activity, wanted):
        taps[name] = named(name, signals.taps[place_of(name)]).detach().requires_grad_()
    attention = {n: t for n, t in signals.attention.items() if ATTENTION + n in wanted}
    image = torch.randn(N, 3, 4, 4, generator=torch.Generator().manual_seed(len(taps)))
    image = image.to(signals.logits.dtype).requires_grad_()
    if GRADIENT in wanted:
        taps[GRADIENT] = image
    if INPUT.name in wanted:
        return _from_image(replace(signals, taps={**taps, INPUT.name: image}, attention=attention))
    return replace(signals, taps=taps, attention=attention)


def _from_image(signals: Signals) -> Signals:
    """With logits that are computed from the image, for methods that ask how they depend on it."""
    pixels = signals.taps[INPUT.name].flatten(1)
    mix = torch.randn(pixels.shape[1], CLASSES, generator=torch.Generator().manual_seed(3))
    logits = (pixels @ mix.to(pixels)).sin()
    logits.retain_grad()
    return replace(signals, logits=logits)


def _permuted(signals: Signals, order: Tensor) -> Signals:
    assert signals.samples is not None
    permuted = Signals(
        signals.logits[order],
        {name: tensor[order] for name, tensor in signals.taps.items()},
        {name: tensor[order] for name, tensor in signals.attention.items()},
        signals.classifier,
        signals.samples[order],
    )
    return _from_image(permuted) if INPUT.name in permuted.taps else permuted


def _shapes(student: Signals, teacher: Signals) -> tuple[Shapes, Shapes]:
    return student.shapes(SAMPLES), teacher.shapes(SAMPLES)


def _leaves(signals: Signals) -> list[Tensor]:
    return [signals.logits, *signals.taps.values(), *signals.attention.values()]


@dataclass
class Ready:
    """A method prepared for one case, with signals reduced to what it declares to read."""

    method: Method
    student: Signals
    teacher: Signals
    target: Tensor

    def __post_init__(self) -> None:
        self.state = copy.deepcopy(self.method.state_dict())

    def terms(self) -> Terms:
        """Its terms, always from the state that it came with, and with the same draws."""
        self.method.load_state_dict(self.state)
        torch.manual_seed(1)
        try:
            return self.method(self.student, self.teacher, self.target)
        except KeyError as error:
            raise AssertionError(
                f"reads {error}, which student_taps() or teacher_taps() do not name"
            ) from error

    def misses(self, tap: str) -> bool:
        """Whether it cannot do without one of the student's taps."""
        taps = {name: tensor for name, tensor in self.student.taps.items() if name != tap}
        try:
            self.method(replace(self.student, taps=taps), self.teacher, self.target)
        except KeyError:
            return True
        return False

    def total(self) -> Tensor:
        return torch.stack(list(self.terms().values())).sum()


def _new(plugin: type[Method], case: Case) -> Method:
    torch.manual_seed(0)
    method = plugin(plugin.Knobs())
    method.prepare(*_shapes(case[0], case[1]))
    return method


def _heard(method: Method, case: Case) -> Case:
    """The case, reduced to what the method declares to read."""
    student, teacher, target = case
    shapes = _shapes(student, teacher)
    ours, theirs = method.student_taps(*shapes), method.teacher_taps(*shapes)
    return _select(student, ours), _select(teacher, theirs), target


def _cases(plugin: type[Method], **options: Any) -> Iterator[Ready]:
    """The method in every case that it can work in, which must be one at least."""
    worked = False
    for make in CASES:
        case = make(**options)
        if plugin(plugin.Knobs()).problems(*_shapes(case[0], case[1])):
            continue
        worked = True
        method = _new(plugin, case)
        yield Ready(method, *_heard(method, case))
    assert worked, f"{plugin.name}: works in none of {[make.__name__ for make in CASES]}"


# ---- the promises


def check_describes_itself(plugin: type[Method]) -> None:
    """Name, title, help, source, and knobs with help; a weight that is live."""
    for what in ("name", "title", "help", "source"):
        assert getattr(plugin, what), f"{plugin.__name__}.{what} is empty"
    knobs = {knob.name: knob for knob in knobs_of(plugin.Knobs)}
    assert knobs["weight"].live
    for knob in knobs.values():
        assert knob.help, f"knob '{knob.name}' has no help"
        assert knob.problem(knob.default) is None, f"knob '{knob.name}': its default is not allowed"


def check_builds_from_defaults_to_finite_scalars(plugin: type[Method]) -> None:
    """Terms are named, finite scalars; the weight is not in them."""
    for ready in _cases(plugin):
        terms = ready.terms()
        assert terms, "no terms"
        for name, term in terms.items():
            assert name.startswith(plugin.name), f"term '{name}' is not called after '{plugin.name}'"
            assert term.shape == (), f"term '{name}' is not a scalar: {tuple(term.shape)}"
            assert torch.isfinite(term), f"term '{name}' is {term.item()}"
        ready.method.knobs = ready.method.knobs.model_copy(update={"weight": 3.0})
        for name, term in ready.terms().items():
            torch.testing.assert_close(term, terms[name], msg=f"term '{name}' depends on the weight")


def check_says_why_it_cannot_work(plugin: type[Method]) -> None:
    """Where `problems` speaks, `prepare` refuses with a KdError in the same words."""
    bare = Signals(torch.zeros(N, CLASSES)).shapes()
    for student, teacher in [(bare, bare), *((make()[0].shapes(), bare) for make in CASES)]:
        method = plugin(plugin.Knobs())
        problems = method.problems(student, teacher)
        if not problems:
            method.prepare(student, teacher)
            continue
        with pytest.raises(KdError, match=plugin.name) as refusal:
            method.prepare(student, teacher)
        for problem in problems:
            assert problem in str(refusal.value)


def check_gradient_reaches_the_student_and_its_own_parts_only(plugin: type[Method]) -> None:
    """Declared taps (or the logits) and own parameters get finite gradients, the teacher none."""
    for ready in _cases(plugin):
        total = ready.total()
        assert total.requires_grad, "no gradient leads anywhere"
        total.backward()
        reached = [t.grad for t in _leaves(ready.student) if t.grad is not None]
        assert any(bool(grad.any()) for grad in reached), "no gradient reaches the student"
        assert all(bool(grad.isfinite().all()) for grad in reached)
        for tap, tensor in (*ready.student.taps.items(), *ready.student.attention.items()):
            goal = not plugin.needs_teacher and ready.misses(tap)  # what is learned from, then, and not by
            assert goal or tensor.grad is not None, f"student_taps() names '{tap}', which is not used"
        theirs = (*_leaves(ready.teacher), *(ready.teacher.classifier or ()))
        assert all(tensor is None or tensor.grad is None for tensor in theirs), "the teacher got a gradient"
        for name, parameter in ready.method.named_parameters():
            if not parameter.requires_grad:  # a part that learned in an earlier stage, now frozen
                assert parameter.grad is None
                continue
            assert parameter.grad is not None, f"parameter '{name}' gets no gradient"
            assert parameter.grad.isfinite().all()
        grads = [p.grad for p in ready.method.parameters() if p.grad is not None]
        assert not grads or any(bool(grad.any()) for grad in grads), "all own gradients are zero"


def check_needs_no_teacher_where_it_says_so(plugin: type[Method]) -> None:
    """Shown the student's own signals as the teacher's, a method that needs no teacher still teaches."""
    for make in CASES if not plugin.needs_teacher else ():
        student, _, target = make()
        shapes = _shapes(student, student)
        method = plugin(plugin.Knobs())
        if method.problems(*shapes):
            continue
        method.prepare(*shapes)
        own = _select(student, method.student_taps(*shapes))
        total = torch.stack(list(method(own, own, target).values())).sum()
        total.backward()
        grads = [tensor.grad for tensor in _leaves(own) if tensor.grad is not None]
        assert any(bool(grad.any()) for grad in grads), "no gradient reaches the student"


def check_parts_are_registered_and_move(plugin: type[Method]) -> None:
    """What is trained is in the state dict, moves with `.to`, and comes back from a saved state."""
    for make in CASES:
        case = make()
        if plugin(plugin.Knobs()).problems(*_shapes(case[0], case[1])):
            continue
        method, other = _new(plugin, case), _new(plugin, case)
        hidden = [name for name, value in vars(method).items() if not name.startswith("_") and _holds(value)]
        assert not hidden, f"tensors or modules in plain attributes, neither trained nor saved: {hidden}"
        case = _heard(method, case)
        method(*case)  # so that running statistics, where there are any, differ
        other.load_state_dict(copy.deepcopy(method.state_dict()))
        assert _same(method.eval()(*case), other.eval()(*case)), "a loaded state gives other terms"
        moved = method.to(torch.float64).to("meta").state_dict().values()
        assert all(tensor.device.type == "meta" for tensor in moved)


def check_half_precision_does_not_overflow(plugin: type[Method]) -> None:
    """fp16 signals near the top of the range give finite terms and gradients."""
    for ready in _cases(plugin, scale=1000.0, dtype=torch.float16):
        ready.student.logits.data.clamp_(-6e4, 6e4).mul_(20)
        for name, term in ready.terms().items():
            assert torch.isfinite(term), f"term '{name}' is {term.item()} for fp16 signals"
        ready.total().backward()
        for tensor in _leaves(ready.student):
            assert tensor.grad is None or bool(tensor.grad.isfinite().all())


def check_computes_where_its_signals_are(plugin: type[Method], device: str) -> None:
    """On that device terms are finite, and the student and the method's own parts get gradients there."""
    for ready in _cases(plugin):
        method = ready.method.to(device)
        student, teacher = (_moved(signals, device) for signals in (ready.student, ready.teacher))
        terms = method(student, teacher, ready.target.to(device))
        assert all(bool(term.isfinite()) and term.device.type == device for term in terms.values())
        torch.stack(list(terms.values())).sum().backward()
        reached = [tensor.grad for tensor in _leaves(ready.student) if tensor.grad is not None]
        assert any(bool(grad.any()) for grad in reached), "no gradient reaches the student"


def check_batch_order_does_not_matter(plugin: type[Method]) -> None:
    """A permutation of the batch changes nothing, unless the method says `depends_on_order`."""
    if plugin.depends_on_order:
        return
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    for ready in _cases(plugin):
        method, target = ready.method, ready.target[order]
        again = method(_permuted(ready.student, order), _permuted(ready.teacher, order), target)
        for name, term in ready.terms().items():
            torch.testing.assert_close(
                again[name], term, rtol=1e-5, atol=1e-7, msg=f"'{name}' depends on order"
            )


def check_is_repeatable(plugin: type[Method]) -> None:
    """From the same state and seed it gives the same bits, in evaluation from the state alone; its inputs
    stay as they were."""
    for ready, twin in zip(_cases(plugin), _cases(plugin), strict=True):
        before = [tensor.detach().clone() for tensor in (*_leaves(ready.student), *_leaves(ready.teacher))]
        first = ready.terms()
        assert _same(first, ready.terms()), "the second call gives something else"
        assert _same(first, twin.terms()), "one seed, two results"
        method = ready.method.eval()
        once, again = (method(ready.student, ready.teacher, ready.target) for _ in range(2))
        assert _same(once, again), "two results in evaluation"
        after = (*_leaves(ready.student), *_leaves(ready.teacher))
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True)), "an input was changed"


def check_live_knobs_act_at_the_next_call(plugin: type[Method]) -> None:
    """A live knob set to its ends on a prepared method keeps the terms finite."""
    for ready in _cases(plugin):
        for knob in knobs_of(plugin.Knobs):
            ends = [value for value in (knob.low, knob.high) if value is not None]
            for value in ends if knob.live and knob.kind in ("int", "float") else []:
                kept = ready.method.knobs
                typed = int(value) if knob.kind == "int" else float(value)
                ready.method.knobs = kept.model_copy(update={knob.name: typed})
                for name, term in ready.terms().items():
                    assert torch.isfinite(term), f"'{name}' is {term.item()} at {knob.name} = {value}"
                ready.method.knobs = kept


def check_learns_from_mixed_images_unless_it_says_so(plugin: type[Method]) -> None:
    """Soft targets, a row of them unlabelled, give finite terms and gradients, where not `hard_targets`."""
    knobs = {knob.name: knob for knob in knobs_of(plugin.Knobs)}
    for knob, value in plugin.hard_targets.items() if isinstance(plugin.hard_targets, Mapping) else ():
        assert knobs[knob].problem(value) is None, f"hard_targets: '{knob}' is never {value}"
    settings = plugin.Knobs().model_dump()
    for ready in _cases(plugin) if mixing_refusal(plugin.name, plugin.hard_targets, settings) is None else ():
        first, second = (F.one_hot((ready.target + k) % CLASSES, CLASSES) for k in range(2))
        ready.target = 0.75 * first + 0.25 * second
        ready.target[0] = 0
        for name, term in ready.terms().items():
            assert torch.isfinite(term), f"term '{name}' is {term.item()} for soft targets"
        ready.total().backward()
        for tensor in _leaves(ready.student):
            assert tensor.grad is None or bool(tensor.grad.isfinite().all())


def check_says_whether_it_must_learn_alone(plugin: type[Method]) -> None:
    """It draws random numbers, or asks for a second derivative, exactly where it says `alone`."""
    needs = False
    for ready in _cases(plugin):
        torch.manual_seed(1)
        before = torch.get_rng_state()
        ready.method(ready.student, ready.teacher, ready.target)
        needs |= not torch.equal(before, torch.get_rng_state()) or INPUT.name in ready.student.taps
    assert needs == plugin.alone, f"{plugin.name}: alone is {plugin.alone}, and it should be {needs}"


CHECKS: tuple[Callable[[type[Method]], None], ...] = (
    check_describes_itself,
    check_builds_from_defaults_to_finite_scalars,
    check_says_why_it_cannot_work,
    check_gradient_reaches_the_student_and_its_own_parts_only,
    check_needs_no_teacher_where_it_says_so,
    check_parts_are_registered_and_move,
    check_half_precision_does_not_overflow,
    check_batch_order_does_not_matter,
    check_is_repeatable,
    check_live_knobs_act_at_the_next_call,
    check_learns_from_mixed_images_unless_it_says_so,
    check_says_whether_it_must_learn_alone,
)


def check_method(plugin: type[Method]) -> None:
    """All of the above. AssertionError at the first promise that is broken."""
    for check in CHECKS:
        check(plugin)


def _holds(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_holds(item) for item in value.values())
    if isinstance(value, (list, tuple, set)):
        return any(_holds(item) for item in value)
    return isinstance(value, (Tensor, nn.Module))


def _moved(signals: Signals, device: str) -> Signals:
    """On the device; the leaves stay where they are, and get the gradients."""
    classifier, samples = signals.classifier, signals.samples
    moved = Signals(
        signals.logits.to(device),
        {name: tensor.to(device) for name, tensor in signals.taps.items()},
        {name: tensor.to(device) for name, tensor in signals.attention.items()},
        None if classifier is None else Classifier(*(t if t is None else t.to(device) for t in classifier)),
        None if samples is None else samples.to(device),
        tuple(_moved(member, device) for member in signals.members),
    )
    return _from_image(moved) if INPUT.name in moved.taps else moved


def _same(a: Terms, b: Terms) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# ---- the tests

FOUND = discover("methods")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("name", sorted(FOUND.plugins))
def test_every_method_keeps_its_promises(name: str, check: Callable[[type[Method]], None]) -> None:
    check(FOUND.plugins[name])  # type: ignore[arg-type]


DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", sorted(FOUND.plugins))
def test_every_method_computes_where_its_signals_are(name: str, device: str) -> None:
    check_computes_where_its_signals_are(FOUND.plugins[name], device)  # type: ignore[arg-type]


def test_every_method_file_imports() -> None:
    assert not FOUND.broken
    assert {"kd", "hard-label", "at", "fitnet"} <= FOUND.plugins.keys()


def test_a_method_that_takes_soft_targets_for_classes_is_caught() -> None:
    class Careless(FOUND.plugins["dkd"]):  # type: ignore[name-defined,misc]
        hard_targets = False

    with pytest.raises((RuntimeError, IndexError)):
        check_learns_from_mixed_images_unless_it_says_so(Careless)
