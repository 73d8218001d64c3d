"""Weights: read from everywhere, refused with words where they do not fit, and never run as code."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torch import Tensor, nn

from kd_engine import paths, weights
from kd_engine._torchvision import import_torchvision
from kd_engine.errors import KdError, StoreError, WeightsError
from kd_engine.models import create

State = dict[str, Tensor]


@pytest.fixture
def resnet() -> nn.Module:
    torch.manual_seed(0)
    return create("resnet8", 10)


def fresh(model: str = "resnet8", classes: int = 10, **knobs: Any) -> nn.Module:
    """Another one, with other random weights."""
    torch.manual_seed(1)
    return create(model, classes, **knobs)


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


WRAPPINGS: dict[str, Callable[[State], Any]] = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"epoch": 3, "state_dict": state, "best_prec1": 91.7},
    "model": lambda state: {"model": state, "best_acc": torch.tensor(0.7), "optimizer": {"state": {}}},
    "student": lambda state: {"student": state},
    "twice": lambda state: {"model": {"state_dict": state}},
    "data parallel": lambda state: {"state_dict": {f"module.{name}": t for name, t in state.items()}},
    "compiled and parallel": lambda state: {f"module._orig_mod.{name}": t for name, t in state.items()},
    "a lesson": lambda state: {f"student.{n}": t for n, t in state.items()} | {"methods.at.w": torch.ones(1)},
    "lightning": lambda state: {"state_dict": {f"model.{n}": t for n, t in state.items()}, "loops": {}},
    "half precision": lambda state: {n: t.half() if t.is_floating_point() else t for n, t in state.items()},
    "without counts": lambda state: {n: t for n, t in state.items() if not n.endswith("num_batches_tracked")},
    "names of RepDistiller": lambda state: {n.replace("linear.", "fc."): t for n, t in state.items()},
    "names of akamaster": lambda state: {n.replace("downsample.", "shortcut."): t for n, t in state.items()},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_checkpoints_from_outside_load_as_they_come(wrapping: str, resnet: nn.Module, tmp_path: Path) -> None:
    if wrapping == "half precision":
        resnet.half().float()
    file = tmp_path / "checkpoint.pth"
    torch.save(WRAPPINGS[wrapping](resnet.state_dict()), file)
    other = fresh()
    assert not same(other, resnet)
    weights.load(other, "resnet8", str(file), tmp_path)
    assert same(other, resnet)


@pytest.mark.parametrize("suffix", [".pt", ".th", ".bin", ".safetensors"])
def test_every_usual_ending_is_read(suffix: str, resnet: nn.Module, tmp_path: Path) -> None:
    file = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        weights.save_state(file, resnet.state_dict())
    else:
        torch.save(resnet.state_dict(), file)
    state = weights.read_state(file)
    assert state.keys() == resnet.state_dict().keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in resnet.state_dict().items())


def test_a_checkpoint_of_a_newer_pickle_protocol_is_read(resnet: nn.Module, tmp_path: Path) -> None:
    torch.save({"model": resnet.state_dict()}, tmp_path / "new.pt", pickle_protocol=3)
    weights.fit(other := fresh(), weights.read_state(tmp_path / "new.pt"), "new.pt")
    assert same(other, resnet)


def test_a_checkpoint_before_zip_files_is_read(resnet: nn.Module, tmp_path: Path) -> None:
    torch.save(resnet.state_dict(), tmp_path / "old.th", _use_new_zipfile_serialization=False)
    weights.fit(other := fresh(), weights.read_state(tmp_path / "old.th"), "old.th")
    assert same(other, resnet)


def test_no_weights_leave_the_model_as_it_is(tmp_path: Path) -> None:
    model = fresh()
    weights.load(model, "resnet8", None, tmp_path)
    assert same(model, fresh())


class Touch:
    """Unpickled carelessly, it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.file),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_code_is_refused_and_never_run(zipped: bool, resnet: nn.Module, tmp_path: Path) -> None:
    trap, file = tmp_path / "trapped", tmp_path / "evil.pth"
    torch.save(resnet.state_dict() | {"evil": Touch(trap)}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"evil.pth: refused: .*mkdir.* Nothing was run.*state dict"):
        weights.read_state(file)
    assert not trap.exists()
    torch.load(file, weights_only=False)  # the trap does snap
    assert trap.exists()


def test_a_plain_pickle_with_code_is_not_run_either(tmp_path: Path) -> None:
    (tmp_path / "evil.pt").write_bytes(pickle.dumps({"evil": Touch(tmp_path / "trapped")}))
    with pytest.raises(WeightsError):
        weights.read_state(tmp_path / "evil.pt")
    assert not (tmp_path / "trapped").exists()


def test_a_whole_pickled_model_is_refused(resnet: nn.Module, tmp_path: Path) -> None:
    torch.save(resnet, tmp_path / "model.pt")
    with pytest.raises(WeightsError, match=r"refused: .*ResNet"):
        weights.read_state(tmp_path / "model.pt")


def test_files_that_are_no_checkpoints_are_told_apart(resnet: nn.Module, tmp_path: Path) -> None:
    cases: dict[str, tuple[bytes, str]] = {
        "text.pth": (b"epoch,accuracy\n1,0.5\n", "not a checkpoint"),
        "noise.pt": (bytes(range(256)) * 40, "not a checkpoint"),
        "zip.pt": (b"PK\x03\x04" + bytes(500), "not a checkpoint"),
        "empty.pth": (b"", "is empty"),
        "empty.safetensors": (b"", "is empty"),
        "text.safetensors": (b"hello, I am a text", "not a whole safetensors file"),
    }
    torch.save(resnet.state_dict(), tmp_path / "whole.pth")
    weights.save_state(tmp_path / "whole.safetensors", resnet.state_dict())
    for whole, words in (("whole.pth", "cut off"), ("whole.safetensors", "not a whole safetensors file")):
        content = (tmp_path / whole).read_bytes()
        cases[f"cut-{whole}"] = (content[: len(content) // 2], words)
    for name, (content, words) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match=words):
            weights.read_state(tmp_path / name)
    with pytest.raises(WeightsError, match="a folder, not a checkpoint"):
        weights.read_state(tmp_path)
    with pytest.raises(WeightsError, match=r"whole.pht: no such file \(did you mean 'whole.pth'\?\)"):
        weights.read_state(tmp_path / "whole.pht")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (torch.ones(3), "holds a Tensor, not a state dict"),
        ([1, 2], "holds a list"),
        ({"epoch": 3, "accuracy": 0.5}, "its entries are: epoch, accuracy"),
        ({1: torch.ones(2)}, "no tensors by name"),
        ({}, "its entries are: none"),
    ],
)
def test_checkpoints_without_a_state_dict_say_what_they_hold(
    content: Any, words: str, tmp_path: Path
) -> None:
    torch.save(content, tmp_path / "odd.pt")
    with pytest.raises(WeightsError, match=words):
        weights.read_state(tmp_path / "odd.pt")


def test_a_checkpoint_that_holds_itself_ends(tmp_path: Path) -> None:
    content: dict[str, Any] = {"epoch": 1}
    content["model"] = content
    torch.save(content, tmp_path / "loop.pt")
    with pytest.raises(WeightsError, match="no tensors by name"):
        weights.read_state(tmp_path / "loop.pt")


def test_another_number_of_classes_is_told_in_words_and_changes_nothing(resnet: nn.Module) -> None:
    model = fresh(classes=100)
    with pytest.raises(WeightsError, match=r"^a.pt: the file has 10 classes, the data 100\."):
        weights.fit(model, resnet.state_dict(), "a.pt")
    assert same(model, fresh(classes=100))


def test_a_fresh_head_is_kept_when_asked_for(resnet: nn.Module) -> None:
    model, untouched = fresh(classes=100), fresh(classes=100)
    weights.fit(model, resnet.state_dict(), "a.pt", keep_head=True)
    assert torch.equal(model.linear.weight, untouched.linear.weight)
    assert torch.equal(model.layer3[0].conv1.weight, resnet.layer3[0].conv1.weight)


def test_the_wrong_model_is_told_by_a_few_names_and_shapes(resnet: nn.Module) -> None:
    with pytest.raises(WeightsError) as deeper:
        weights.fit(fresh("resnet56"), resnet.state_dict(), "a.pt")
    assert "missing in the file: layer1.1.conv1.weight" in str(deeper.value)
    assert "more" in str(deeper.value)
    assert len(str(deeper.value)) < 400
    with pytest.raises(WeightsError) as wider:
        weights.fit(fresh("resnet8x4"), resnet.state_dict(), "a.pt")
    assert "conv1.weight [16, 3, 3, 3] in the file, [32, 3, 3, 3] in the model" in str(wider.value)
    assert "classes" not in str(wider.value)


@pytest.mark.parametrize(("made_with", "built_with"), [("A", "B"), ("B", "A")])
def test_the_other_shortcut_is_recognised(made_with: str, built_with: str) -> None:
    made = create("resnet8", 10, shortcut=made_with)
    with pytest.raises(WeightsError, match=f"made with shortcut {made_with}: set the model's `shortcut`"):
        weights.fit(fresh(shortcut=built_with), made.state_dict(), "a.pt")


def test_a_transformer_of_another_image_size_is_recognised() -> None:
    small = {"depth": 1, "width": 16, "heads": 2}
    made = create("vit-tiny", 10, size=16, **small)
    with pytest.raises(WeightsError, match="another image size"):
        weights.fit(create("vit-tiny", 10, size=32, **small), made.state_dict(), "a.pt")


def test_a_state_dict_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    shared = torch.arange(6.0)
    state = {
        "a": shared,
        "b": shared[2:4],
        "t": torch.ones(3, 2).t(),
        "n": torch.tensor(7),
        "h": torch.ones(2).bfloat16(),
    }
    file = tmp_path / "deep" / "state.safetensors"
    weights.save_state(file, state, {"card": '{"top1": 0.93}'})
    back = weights.read_state(file)
    assert all(
        torch.equal(tensor, back[name]) and tensor.dtype == back[name].dtype for name, tensor in state.items()
    )
    assert weights.read_metadata(file) == {"card": '{"top1": 0.93}'}
    weights.save_state(file, {"a": shared})
    assert weights.read_metadata(file) == {}
    assert [path.name for path in file.parent.iterdir()] == ["state.safetensors"]


def test_a_full_disk_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "state.safetensors"
    weights.save_state(file, {"a": torch.ones(3)})
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        write(path, content[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StoreError, match=r"state.safetensors: cannot be written: No space left on device"):
        weights.save_state(file, {"a": torch.zeros(3)})
    monkeypatch.undo()
    assert torch.equal(weights.read_state(file)["a"], torch.ones(3))
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]
    weights.save_state(file, {"a": torch.zeros(3)})
    assert torch.equal(weights.read_state(file)["a"], torch.zeros(3))


def test_metadata_of_another_file_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match="not a readable safetensors file"):
        weights.read_metadata(tmp_path / "a.pt")


@pytest.fixture
def run(resnet: nn.Module, tmp_path: Path) -> Path:
    """A folder of runs with one run in it, whose last weights are those of `resnet`."""
    folder = tmp_path / "runs" / "2026-11-20_digits_7f3a"
    folder.mkdir(parents=True)
    (folder / "recipe.json").write_text('{"version": 1}')
    weights.save_state(folder / "last.safetensors", resnet.state_dict())
    return folder


def test_a_run_gives_its_last_weights_or_its_best(run: Path, resnet: nn.Module) -> None:
    for name in (f"run:{run.name}", "run:digits", str(run)):
        weights.load(other := fresh(), "resnet8", name, run.parent)
        assert same(other, resnet)
    with pytest.raises(WeightsError, match="no weights of the best epoch"):
        weights.locate(f"run:{run.name}:best", run.parent)
    weights.save_state(run / "best.safetensors", fresh().state_dict())
    for name in (f"run:{run.name}:best", f"{run}:best"):
        weights.load(other := create("resnet8", 10), "resnet8", name, run.parent)
        assert same(other, fresh())


def test_a_run_that_is_not_there_or_has_no_weights_yet_is_told(run: Path) -> None:
    with pytest.raises(KdError, match=r"no run '2026-11-20_digits_7f3b'.*did you mean"):
        weights.locate("run:2026-11-20_digits_7f3b", run.parent)
    (run / "last.safetensors").unlink()
    with pytest.raises(
        WeightsError, match=r"no weights yet in this folder. Expected a file last.safetensors"
    ):
        weights.locate(str(run), run.parent)


def test_bundled_weights_are_found_by_name(
    resnet: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "resources", lambda: tmp_path)
    with pytest.raises(WeightsError, match="has none"):
        weights.locate("bundled:digits-resnet8", tmp_path)
    weights.save_state(tmp_path / "teachers" / "digits-resnet8.safetensors", resnet.state_dict())
    assert list(weights.bundled()) == ["digits-resnet8"]
    weights.load(other := fresh(), "resnet8", "bundled:digits-resnet8", tmp_path)
    assert same(other, resnet)
    with pytest.raises(WeightsError, match=r"no bundled weights 'digit-resnet8' \(did you mean"):
        weights.locate("bundled:digit-resnet8", tmp_path)
    with pytest.raises(WeightsError, match="no bundled weights"):
        weights.locate("bundled:../teachers/digits-resnet8", tmp_path)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which torchvision looks for its published files; there is no network."""

    def offline(*_args: object, **_more: object) -> None:
        raise URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", offline)
    return tmp_path / "hub" / "checkpoints"


def published(model: str) -> str:
    choices = import_torchvision().models.get_model_weights(model)
    return str(choices.DEFAULT.url).rsplit("/", 1)[-1]


def test_published_weights_load_and_the_head_is_fitted_anew(hub: Path) -> None:
    torch.manual_seed(0)
    original = create("shufflenet_v2_x0_5", 1000, 64)
    hub.mkdir(parents=True)
    torch.save(original.state_dict(), hub / published("shufflenet_v2_x0_5"))
    same_classes, others = create("shufflenet_v2_x0_5", 1000, 64), create("shufflenet_v2_x0_5", 10, 64)
    weights.load(same_classes, "shufflenet_v2_x0_5", "torchvision", hub)
    weights.load(others, "shufflenet_v2_x0_5", "torchvision", hub)
    assert same(same_classes, original)
    assert torch.equal(others.conv5[0].weight, original.conv5[0].weight)
    assert others.fc.weight.shape == (10, 1024)


def test_without_a_network_it_is_told_which_file_goes_where(hub: Path) -> None:
    model = create("shufflenet_v2_x0_5", 10, 64)
    with pytest.raises(WeightsError) as told:
        weights.load(model, "shufflenet_v2_x0_5", "torchvision", hub)
    assert str(hub / published("shufflenet_v2_x0_5")) in str(told.value)
    assert "https://download.pytorch.org" in str(told.value)
    with pytest.raises(WeightsError, match="no published weights for resnet8"):
        weights.load(fresh(), "resnet8", "torchvision", hub)


def test_code_in_a_published_file_is_never_run(hub: Path, tmp_path: Path) -> None:
    hub.mkdir(parents=True)
    torch.save({"evil": Touch(tmp_path / "trapped")}, hub / published("shufflenet_v2_x0_5"))
    with pytest.raises(WeightsError, match="not the checkpoint it should be"):
        weights.load(create("shufflenet_v2_x0_5", 10, 64), "shufflenet_v2_x0_5", "torchvision", hub)
    assert not (tmp_path / "trapped").exists()
