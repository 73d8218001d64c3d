"""A student with its teacher's classifier: what it computes, that it is rebuilt from files, and that a run of
it can be killed, measured, exported and used as a teacher like any other.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kd_engine import answers, card, graft, models, weights
from kd_engine.catalog import load
from kd_engine.check import check
from kd_engine.classroom import load_data
from kd_engine.commands import AskProbe
from kd_engine.deploy import load_model
from kd_engine.errors import KdError, WeightsError
from kd_engine.events import EpochDone, Evaluated, ProbeReady, RunFailed, StageStarted, StepDone
from kd_engine.recipe import Recipe
from kd_engine.registry import discover, find
from kd_engine.session import Session
from kd_engine.store import RunFolder
from kd_engine.taps import Reader, Tap, measure
from kd_engine.teacher import Model
from tests.engine import tiny

SIMKD = [{"method": "simkd"}, {"method": "kd", "weight": 0.1}]
FORMATS = sorted(discover("exporters").plugins)


def model(name: str, seed: int = 0, size: int = 32, **knobs: Any) -> Model:
    torch.manual_seed(seed)
    module = models.create(name, 10, size, **knobs)
    taps = dict(models.taps_of(name, module))
    return Model(module, taps, measure(module, taps, size), None)


def images(size: int = 32) -> Tensor:
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(5))


def bits(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


# -- what it computes ----------------------------------------------------------------------------------------


def test_its_logits_are_the_teachers_classifier_on_the_mean_of_the_projected_map() -> None:
    student, teacher = model("resnet8"), model("resnet8x4", 1)
    plain, before = copy.deepcopy(student.module).eval(), bits(teacher.module)
    grown = graft.grafted(student, teacher, 2, 32)
    module = grown.module.eval()
    with Reader(plain, student.taps.values()) as body, Reader(module, grown.taps.values()) as whole:
        old, new = body(images()), whole(images())
    part = module.get_submodule("layer3")
    assert isinstance(part, graft.Projected)
    projected = part.projector(old.taps["stage3"])
    torch.testing.assert_close(new.taps["projected"], projected)
    last = teacher.module.get_submodule("linear")
    assert isinstance(last, nn.Linear)
    torch.testing.assert_close(new.logits, last(projected.mean((2, 3))))
    for name in ("stem", "preact1", "stage1", "preact2", "stage2", "preact3", "stage3"):
        assert torch.equal(new.taps[name], old.taps[name]), name
    torch.testing.assert_close(new.taps["embedding"], projected.mean((2, 3)))
    assert {n: tuple(t.shape[1:]) for n, t in new.taps.items()} == dict(grown.shapes.taps)
    assert list(grown.taps)[-2:] == ["projected", "embedding"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.module.state_dict().items())


def test_only_the_classifier_does_not_learn_and_the_students_own_is_gone() -> None:
    grown = graft.grafted(model("resnet8"), model("resnet8x4", 1), 2, 32).module
    frozen = [name for name, parameter in grown.named_parameters() if not parameter.requires_grad]
    assert frozen == ["linear.weight", "linear.bias"]
    own = models.count_parameters(models.create("resnet8", 10)) - 65 * 10
    inside = 64 * 128 + 128 * 128 * 9 + 128 * 256 + 2 * (128 + 128 + 256)
    assert models.count_parameters(grown) == own + inside + 257 * 10
    grown(images()).sum().backward()
    learning = {name: p.grad is not None for name, p in grown.named_parameters() if p.requires_grad}
    assert all(learning.values())


@pytest.mark.parametrize(
    ("student", "teacher", "size"),
    [
        ("cnn", "resnet8", (8, 8)),
        ("vgg8", "resnet8", (4, 4)),
        ("resnet8", "vgg8", (4, 4)),
        ("wrn_10_1", "cnn", (8, 8)),
    ],
)
def test_a_larger_map_of_the_student_is_averaged_to_the_teachers(
    student: str, teacher: str, size: tuple[int, int]
) -> None:
    grown = graft.grafted(model(student), model(teacher, 1), 2, 32)
    assert grown.shapes.taps["projected"][1:] == size
    assert grown.module(images()).shape == (3, 10)


@pytest.mark.parametrize(
    ("name", "skipped"),
    [
        ("mobilenetv2", ["conv2.0", "conv2.1"]),
        ("shufflenetv2", ["conv2", "bn2"]),
        ("shufflenetv1", []),
        ("mobilenet_v3_small", ["classifier.0", "classifier.1"]),
        ("shufflenet_v2_x0_5", []),
    ],
)
def test_what_a_student_has_between_its_last_map_and_its_classifier_is_skipped(
    name: str, skipped: list[str]
) -> None:
    grown = graft.grafted(model(name), model("cnn", 1), 2, 32)
    made = json.loads(json.dumps(graft.described(grown.module)))
    assert made["graft"]["skipped"] == skipped
    again = models.create(name, 10)
    graft.rebuild(again, made)
    weights.fit(again, grown.module.state_dict(), "a test")
    with torch.no_grad(), Reader(grown.module.eval(), grown.taps.values()) as reader:
        said = reader(images())
        assert torch.equal(again.eval()(images()), said.logits)
    last = said.classifier
    assert last is not None
    torch.testing.assert_close(said.logits, nn.functional.linear(said.taps["projected"].mean((2, 3)), *last))


@pytest.mark.parametrize(
    ("student", "teacher", "why"),
    [
        ("vit-tiny", "cnn", "the student has no last map"),
        ("cnn", "mobilenetv2", "it is not the mean of its stage4 that the teacher classifies"),
        ("cnn", "squeezenet1_1", "the teacher has no last map before a linear layer"),
        ("swin_t", "cnn", "not what one of its parts gives"),
    ],
)
def test_a_model_that_classifies_something_else_is_refused(student: str, teacher: str, why: str) -> None:
    given = {"depth": 1, "width": 16, "heads": 2} if student == "vit-tiny" else {}
    body, taught_by = model(student, **given), model(teacher, 1)
    before = bits(taught_by.module)
    with pytest.raises(KdError, match=why):
        graft.grafted(body, taught_by, 2, 32)
    assert body.module.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in taught_by.module.state_dict().items())


class Signed(nn.Module):
    """Classifies the mean of the squares of its last map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.linear = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.linear(self.conv(x).square().mean((2, 3)))
        return answer


def test_what_no_part_does_cannot_be_skipped() -> None:
    torch.manual_seed(0)
    module, taps = Signed(), {"stage1": Tap("stage1", "conv")}
    student = Model(module, taps, measure(module, taps, 32), None)
    with pytest.raises(KdError, match="between its stage1 and its classifier cannot be skipped"):
        graft.grafted(student, model("cnn", 1), 2, 32)


def test_a_student_gets_one_classifier_only() -> None:
    teacher = model("cnn", 1)
    grown = graft.grafted(model("cnn"), teacher, 2, 32)
    with pytest.raises(KdError, match="carry a teacher's classifier already"):
        graft.grafted(grown, teacher, 2, 32)


# -- made again from a card ----------------------------------------------------------------------------------


def test_a_fresh_model_is_rebuilt_from_the_card_and_the_weights() -> None:
    grown = graft.grafted(model("resnet8"), model("vgg8", 1), 4, 32)
    made = json.loads(json.dumps(graft.described(grown.module)))
    again = model("resnet8", 9)
    change = graft.rebuild(again.module, made)
    assert change is not None
    weights.fit(again.module, grown.module.state_dict(), "a test")
    with torch.no_grad():
        assert torch.equal(again.module.eval()(images()), grown.module.eval()(images()))
    assert graft.moved(again.taps, change) == grown.taps
    frozen = [name for name, parameter in again.module.named_parameters() if not parameter.requires_grad]
    assert frozen == ["linear.weight", "linear.bias"]


def test_a_model_without_a_graft_is_left_alone() -> None:
    plain = models.create("cnn", 10)
    assert graft.described(plain) == {}
    for nothing in (None, {}, {"model": "cnn"}):
        assert graft.rebuild(plain, nothing) is None


GOOD = {
    "stage": "stage3",
    "classifier": "linear",
    "skipped": [],
    "channels": 16,
    "width": 8,
    "size": None,
    "factor": 2,
    "classes": 10,
    "bias": True,
}


@pytest.mark.parametrize(
    "wrong",
    [
        "words",
        [],
        {},
        {**GOOD, "more": 1},
        {**GOOD, "stage": "nowhere.at.all"},
        {**GOOD, "stage": ""},
        {**GOOD, "classifier": 7},
        {**GOOD, "skipped": [3]},
        {**GOOD, "skipped": ["stem.9.no"]},
        {**GOOD, "skipped": None},
        {**GOOD, "width": 0},
        {**GOOD, "width": 10**12},
        {**GOOD, "channels": 1.5},
        {**GOOD, "size": [4]},
        {**GOOD, "size": [4, -1]},
        {**GOOD, "size": 4},
        {**GOOD, "bias": "yes"},
    ],
)
def test_a_card_that_says_what_cannot_be_is_refused(wrong: Any) -> None:
    graft.rebuild(models.create("cnn", 10), {"graft": GOOD})
    with pytest.raises(WeightsError, match="its card says of a graft"):
        graft.rebuild(models.create("cnn", 10), {"graft": wrong})


# -- a run ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A teacher that is wider, a rival without it, and pictures."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        module = models.create("cnn", 10, 32, width=3)
    file = tmp_path_factory.mktemp("wide") / "teacher.safetensors"
    weights.save_state(file, module.state_dict())
    return tiny.recipe(
        file,
        teacher__width=3,
        stages__0__methods=SIMKD,
        stages__0__label_weight=0.0,
        stages__0__rivals=[tiny.PLAIN],
        stages__0__snapshots=True,
    )


@pytest.fixture(scope="module")
def run(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return tiny.run(recipe, tmp_path_factory.mktemp("runs"))


def test_a_run_trains_all_but_the_teachers_classifier(run: RunFolder, recipe: Recipe) -> None:
    assert recipe.teacher is not None
    ours, theirs = tiny.weights(run), weights.read_state(Path(str(recipe.teacher.weights)))
    assert torch.equal(ours["linear.weight"], theirs["linear.weight"])
    assert torch.equal(ours["linear.bias"], theirs["linear.bias"])
    told = list(run.events())
    steps = [step for step in tiny.of(StepDone, told) if step.student == "student"]
    assert steps[-1].terms.keys() == {"simkd", "kd"}
    assert steps[-1].terms["simkd"] < steps[0].terms["simkd"]
    (stage,) = tiny.of(StageStarted, told)
    found = {e.student: e.metrics["parameters"] for e in tiny.of(Evaluated, told) if e.weights == "last"}
    assert found["student"] == stage.parameters == sum(t.numel() for n, t in ours.items() if _learned(n))
    assert found["no KD"] == models.count_parameters(models.create("cnn", 10, 32, width=2))


def _learned(name: str) -> bool:
    return not name.endswith(("running_mean", "running_var", "num_batches_tracked"))


def test_a_stored_run_is_evaluated_and_looked_at_as_it_was(run: RunFolder, tmp_path: Path) -> None:
    told = answers.evaluate_run(run.folder)
    summary = run.read_json("summary.json")
    assert summary is not None
    student = summary["students"]["student"]
    assert told["figures"]["last"]["top1"] == student["top1_test_last"]
    assert told["figures"]["best"]["top1"] == student["top1_test_best"]
    assert told["figures"]["last"]["parameters"] == student["parameters"]
    for probe in ("attention", "grad-cam"):
        seen = answers.probe(run.folder, None, probe, 0, out=tmp_path / "seen.npz")
        arrays = np.load(seen["path"])
        assert str(arrays["student_tap"]).startswith("projected, 8×8, 12 channels")


@pytest.mark.parametrize("format", FORMATS)
def test_an_export_has_the_same_top1_in_a_fresh_interpreter(
    format: str, run: RunFolder, tmp_path: Path
) -> None:
    suffix = find("exporters", format).suffix
    told = answers.export(run.folder, None, format, tmp_path / f"student{suffix}")
    test = load_data(Recipe.from_document(run.recipe()).data).test
    np.savez(tmp_path / "test.npz", images=test.images(np.arange(len(test))), labels=test.labels)
    script = f"""
import numpy, torch
data = numpy.load("test.npz")
images = torch.from_numpy(data["images"]).float() / 255
{told["code"]}
print((scores.argmax(1).numpy() == data["labels"]).mean())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    summary = run.read_json("summary.json")
    assert summary is not None
    assert float(done.stdout) == summary["students"]["student"]["top1_test_last"]
    assert "| last layer | its teacher's" in Path(told["card_path"]).read_text(encoding="utf-8")


def test_an_export_is_grafted_like_the_run_and_says_so_in_its_header(run: RunFolder, tmp_path: Path) -> None:
    file = tmp_path / "student.safetensors"
    answers.export(run.folder, None, "safetensors", file, "best")
    made = card.read(file)
    assert made is not None
    assert made["graft"] == {**GOOD, "channels": 8, "width": 12}
    loaded = load_model(file).model
    theirs = tiny.weights(run, "best.safetensors")
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in loaded.state_dict().items())


@pytest.mark.usefixtures("quick")
def test_killed_and_resumed_it_ends_with_the_same_bits(
    run: RunFolder, recipe: Recipe, tmp_path: Path
) -> None:
    def work() -> None:
        for event in Session(recipe, tmp_path):
            if isinstance(event, EpochDone) and event.epoch == 2:
                tiny.die()

    assert tiny.in_child(work) == 9
    (folder,) = tmp_path.iterdir()
    session = Session.resume(folder.name, tmp_path)
    tiny.finish(session)
    tiny.assert_same_run(run, tiny.folder(session))


@pytest.mark.usefixtures("quick")
def test_looked_into_while_it_runs_it_ends_with_the_same_bits(
    run: RunFolder, recipe: Recipe, tmp_path: Path
) -> None:
    answered = []

    def steer(session: Session, event: object) -> None:
        if isinstance(event, StageStarted):
            session.send(AskProbe("grad-cam", 0))
        answered.append(isinstance(event, ProbeReady))

    tiny.assert_same_run(run, tiny.steered(recipe, tmp_path, steer))
    assert any(answered)


@pytest.mark.usefixtures("quick")
def test_it_teaches_another_run(run: RunFolder, tmp_path: Path) -> None:
    made = tiny.recipe(run.folder, stages__0__methods=[{"method": "at"}, {"method": "kd"}, {"method": "crd"}])
    tiny.run(made, tmp_path)


@pytest.mark.usefixtures("quick")
def test_a_stage_before_hands_on_its_weights(recipe: Recipe, tmp_path: Path) -> None:
    """With a rate of zero in the last stage, the body still is what the first stage made of it."""
    document = recipe.document()
    document["stages"][0]["rivals"] = []
    first = {**document["stages"][0], "methods": [{"method": "kd"}], "label_weight": 1.0}
    last = copy.deepcopy(document["stages"][0])
    last["optimizer"] = {"name": "sgd", "lr": 0.0}
    both = Recipe.from_document({**document, "stages": [first, last]})
    ours = tiny.weights(tiny.run(both, tmp_path / "both"))
    theirs = tiny.weights(tiny.run(Recipe.from_document({**document, "stages": [first]}), tmp_path / "alone"))
    assert torch.equal(ours["stage3.stage.0.weight"], theirs["stage3.0.weight"])
    assert torch.equal(ours["stage1.0.weight"], theirs["stage1.0.weight"])


# -- refusals ------------------------------------------------------------------------------------------------


def failure(made: Recipe, runs: Path) -> str:
    *_, last = Session(made, runs)
    assert isinstance(last, RunFailed)
    return last.message


def test_only_the_last_stage_may_graft(recipe: Recipe) -> None:
    document = recipe.document()
    later = {**tiny.PLAN, "stage": "train", "epochs": 1}
    document["stages"][0]["rivals"] = [
        {"name": "other", "label_weight": 1.0, "methods": [{"method": "simkd"}]}
    ]
    document["stages"].append(later)
    found = {problem.path: problem.message for problem in check(document, load())}
    assert found.keys() == {"stages.0.methods.0.method", "stages.0.rivals.0.methods.0.method"}
    assert all("only in the last stage" in message for message in found.values())


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"stages.0.methods": [{"method": "simkd"}, {"method": "simkd"}]}, "one classifier only"),
        (
            {"stages.0": {**tiny.PLAN, "stage": "mutual", "epochs": 1, "methods": [{"method": "simkd"}]}},
            "not of its peers",
        ),
        ({"student": {"model": "squeezenet1_1"}}, "the student has no last map before a linear layer"),
        ({"stages.0.methods": [{"method": "simkd"}, {"method": "cat-kd"}]}, "classifier takes 12 features"),
    ],
)
def test_what_cannot_be_grafted_is_told_before_the_first_step(
    recipe: Recipe, changes: dict[str, Any], why: str, tmp_path: Path
) -> None:
    assert why in failure(recipe.with_changes(changes), tmp_path)


@pytest.mark.usefixtures("quick")
def test_weights_that_carry_a_classifier_cannot_get_another(
    run: RunFolder, recipe: Recipe, tmp_path: Path
) -> None:
    made = recipe.with_changes({"student.weights": str(run.folder)})
    assert "carry a teacher's classifier already" in failure(made, tmp_path)
