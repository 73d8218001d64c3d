"""What every probe promises. Runs over all that `discover` finds, also in $KD_PLUGINS.

`check_probe(plugin)` runs every check on one class; a plug-in's author can call it from a test of their own.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kd_engine import models
from kd_engine.errors import KdError
from kd_engine.knobs import knobs_of
from kd_engine.looking import Looked, ask
from kd_engine.probes import Probe
from kd_engine.registry import discover

CLASSES, SIZE = 5, 16
Check = Callable[[type[Probe]], None]


def looked(name: str, **knobs: object) -> Looked:
    """A small model in train mode, its BatchNorm statistics away from their start."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = models.create(name, CLASSES, SIZE, **knobs)
        model(torch.randn(8, 3, SIZE, SIZE))
    return model, models.taps_of(name, model)


def subjects() -> list[Looked]:
    return [looked("cnn", width=4), looked("vit-tiny", depth=3, width=16, heads=2)]


def image() -> Tensor:
    return torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(5))


def _views(plugin: type[Probe]) -> Iterator[tuple[Looked, str]]:
    """Every model that the probe can look at, with each of its taps that works there, "auto" included."""
    worked = False
    for model in subjects():
        choices = plugin.taps(model[1])
        worked = worked or bool(choices)
        for tap in ("auto", *choices) if choices else ():
            yield model, tap
    assert worked, f"{plugin.name} can look at none of the models"


def check_describes_itself(plugin: type[Probe]) -> None:
    """Name, title, help, source, a known kind, and knobs with help."""
    for what in ("name", "title", "help", "source"):
        assert getattr(plugin, what), f"{plugin.__name__}.{what} is empty"
    assert plugin.kind in ("heat", "logits")
    assert all(knob.help and knob.problem(knob.default) is None for knob in knobs_of(plugin.Knobs))


def check_answers_in_the_promised_form(plugin: type[Probe]) -> None:
    """Heat (H, W) float32 within 0 to 1, or logits (C,); finite plain numbers; words that name the place."""
    shape = (SIZE, SIZE) if plugin.kind == "heat" else (CLASSES,)
    for model, tap in _views(plugin):
        arrays, numbers = _ask_unless_refused(plugin, model, tap)
        if not arrays:
            continue
        answer = arrays["student"]
        assert answer.shape == shape
        assert answer.dtype == np.float32
        assert np.isfinite(answer).all()
        assert plugin.kind != "heat" or (answer.min() >= 0 and answer.max() <= 1)
        assert str(arrays["student_tap"])
        for name, number in numbers.items():
            assert type(number) is float, f"{name} is {number!r}"
            assert np.isfinite(number)


def check_is_repeatable(plugin: type[Probe]) -> None:
    """The same question has the same answer bit for bit, whether asked while training or after it."""
    for model, tap in _views(plugin):
        first, second, third = (
            _ask_unless_refused(plugin, (model[0].train(training), model[1]), tap)[0]
            for training in (True, True, False)
        )
        assert all(np.array_equal(first[name], second[name]) for name in first)
        assert all(np.array_equal(first[name], third[name]) for name in first), "it looked in train mode"


def check_leaves_no_trace(plugin: type[Probe]) -> None:
    """State, modes, gradients, flags, hooks, generators and the image are as before, called from anywhere."""
    for model, tap in _views(plugin):
        for frozen in (False, True):
            for context in (torch.enable_grad, torch.no_grad, torch.inference_mode):
                _check_no_trace(plugin, model, tap, frozen, context)


def _check_no_trace(
    plugin: type[Probe], model: Looked, tap: str, frozen: bool, context: Callable[[], object]
) -> None:
    module, _ = model
    module.train()
    for number, parameter in enumerate(module.parameters()):
        parameter.requires_grad_(not frozen and number != 1)
        parameter.grad = None if number % 2 else torch.full_like(parameter, 0.5)
    parts = list(module.modules())
    parts[-1].eval()  # one part in another mode than the rest
    picture = image()
    before, random_before = _traces(module), _generators()
    held = [parameter.grad for parameter in module.parameters()]
    with context():  # type: ignore[attr-defined]
        _ask_unless_refused(plugin, model, tap, picture)
    assert torch.equal(picture, image()), "the image was changed"
    assert _equal(random_before, _generators()), "a random generator was moved"
    for name, value in _traces(module).items():
        assert _equal([before[name]], [value]), f"{name} is not as before"
    assert all(p.grad is grad for p, grad in zip(module.parameters(), held, strict=True))


CHECKS: tuple[Check, ...] = (
    check_describes_itself,
    check_answers_in_the_promised_form,
    check_is_repeatable,
    check_leaves_no_trace,
)


def check_probe(plugin: type[Probe]) -> None:
    """All of the above. AssertionError at the first promise that is broken."""
    for check in CHECKS:
        check(plugin)


def _ask_unless_refused(
    plugin: type[Probe], model: Looked, tap: str, picture: Tensor | None = None
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """A KdError is a fair answer for a chosen tap, never for "auto"."""
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    mask[4:9, 4:9] = True
    try:
        return ask(plugin, {"student": model}, tap, image() if picture is None else picture, mask)
    except KdError:
        assert tap != "auto"
        return {}, {}


def _traces(module: nn.Module) -> dict[str, object]:
    traces: dict[str, object] = {f"state {k}": v.clone() for k, v in module.state_dict().items()}
    traces["modes"] = [part.training for part in module.modules()]
    traces["flags"] = [parameter.requires_grad for parameter in module.parameters()]
    traces["hooks"] = [
        len(p._forward_hooks) + len(p._forward_pre_hooks) + len(p._backward_hooks) for p in module.modules()
    ]
    for name, parameter in module.named_parameters():
        traces[f"grad {name}"] = None if parameter.grad is None else parameter.grad.clone()
    return traces


def _generators() -> list[object]:
    return [torch.get_rng_state(), *np.random.get_state()[1:3], random.getstate()]


def _equal(a: list[object], b: list[object]) -> bool:
    def same(x: object, y: object) -> bool:
        if isinstance(x, Tensor) and isinstance(y, Tensor):
            return torch.equal(x, y)
        return np.array_equal(x, y) if isinstance(x, np.ndarray) and isinstance(y, np.ndarray) else x == y

    return all(same(x, y) for x, y in zip(a, b, strict=True))


FOUND = discover("probes")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("name", sorted(FOUND.plugins))
def test_every_probe_keeps_its_promises(name: str, check: Check) -> None:
    check(FOUND.plugins[name])  # type: ignore[arg-type]


def test_every_probe_file_imports() -> None:
    assert not FOUND.broken
    assert {"attention", "grad-cam", "rollout", "soft-targets"} <= FOUND.plugins.keys()


CARELESS = """
from __future__ import annotations

import random

import numpy as np
import torch

from kd_engine.probes import Look, Probe


class Careless(Probe):
    name = "careless"
    title = help = source = "a test"

    @classmethod
    def look(cls, model, taps, tap, image, knobs):
        random.random(), np.random.rand(), torch.rand(1)
        with torch.inference_mode(False), torch.enable_grad():
            model.train().requires_grad_(True)
            model(image.clone().expand(4, -1, -1, -1)).sum().backward()
        return Look({"heat": np.zeros(image.shape[1:], dtype=np.float32)}, {})
"""


def test_even_a_careless_probe_from_a_folder_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "probes").mkdir()
    (tmp_path / "probes" / "careless.py").write_text(CARELESS)
    monkeypatch.setenv("KD_PLUGINS", str(tmp_path))
    plugin = discover("probes").plugins["careless"]
    assert issubclass(plugin, Probe)
    check_probe(plugin)


def test_a_probe_that_changes_weights_or_keeps_a_hook_is_caught() -> None:
    from kd_engine.probes.attention import Attention

    class Vandal(Attention):
        @classmethod
        def look(cls, model, taps, tap, image, knobs):  # type: ignore[no-untyped-def]
            next(model.parameters()).data.mul_(1.5)
            return super().look(model, taps, tap, image, knobs)

    class Clingy(Attention):
        @classmethod
        def look(cls, model, taps, tap, image, knobs):  # type: ignore[no-untyped-def]
            model.register_forward_hook(lambda *_: None)
            return super().look(model, taps, tap, image, knobs)

    for plugin, what in ((Vandal, "state"), (Clingy, "hooks")):
        with pytest.raises(AssertionError, match=what):
            check_leaves_no_trace(plugin)
