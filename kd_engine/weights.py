"""Fill a model with weights: from nothing, a bundled teacher, a run, a checkpoint from outside, a library.

What a recipe may say: null, `bundled:NAME`, `run:NAME` or a run's folder (its last weights; `:best` behind
it asks for the best on validation), a file (.safetensors, .pt, .pth, .th, .bin), `torchvision` or `timm` for
what these publish. Sharp edge: a .pt file is a pickle; it is read with `weights_only=True`, so that code in
it is refused and never run.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from kd_engine import paths
from kd_engine.disk import replacing
from kd_engine.errors import StoreError, WeightsError, did_you_mean
from kd_engine.models import Architecture, classifier, family_of
from kd_engine.registry import discover
from kd_engine.store import BEST, LAST, Store

# keys under which a whole checkpoint keeps its state dict
WRAPPERS = ("state_dict", "model_state_dict", "student", "model", "net", "network")
PREFIXES = ("module.", "_orig_mod.")  # of names: DataParallel, torch.compile
PARTS = ("student.", "model.", "net.", "network.", "backbone.")  # names of a model inside a larger module
ALIASES = (("linear", "fc"), ("downsample", "shortcut"))  # names of one layer in different codebases
SHOWN = 4  # names in an error, of each kind


def load(module: nn.Module, model: str, weights: str | None, runs: Path) -> None:
    """Fill `module`, made by `models.create(model, ...)`, with what a recipe calls `weights`; null leaves
    it as it is.

    runs: the folder that `run:` looks in. For published weights with another number of classes the head
    stays fresh. WeightsError when the weights cannot be had or do not fit; the module is then unchanged.
    """
    if weights is None:
        return
    if is_published(weights):
        family = family_of(model)
        if family.published != weights:
            raise WeightsError(
                f"there are no published weights for {model} by the name of {weights}.",
                f"By that name they exist for {weights}'s own networks only.",
            )
        state = family.pretrained(model, module)
        fit(module, state, f"{model}, pretrained", keep_head=True)
    else:
        path = locate(weights, runs)
        fit(module, read_state(path), str(path))


def is_published(weights: str) -> bool:
    """Whether a recipe's word for weights stands for those that a library publishes, as `torchvision`
    does."""
    families: list[type[Architecture]] = list(discover("models").plugins.values())  # type: ignore[arg-type]
    return weights in {family.published for family in families} - {""}


def locate(weights: str, runs: Path) -> Path:
    """The file behind what a recipe calls weights (not null, not `torchvision` and its like). WeightsError
    when there is none."""
    if weights.startswith("bundled:"):
        return _bundled(weights.removeprefix("bundled:"))
    name, best = weights.removesuffix(":best"), weights.endswith(":best")
    if name.startswith("run:"):
        try:
            folder = Store(runs).open(name.removeprefix("run:")).folder
        except StoreError as error:
            raise WeightsError(error.message, error.hint) from None
    else:
        folder = Path(name).expanduser()
        if not best and not folder.is_dir():
            return folder
    file = folder / (BEST if best else LAST)
    if not file.is_file():
        which = "of the best epoch" if best else "yet"
        raise WeightsError(f"{folder}: no weights {which} in this folder.", f"Expected a file {file.name}.")
    return file


def bundled() -> dict[str, Path]:
    """The teachers that come with the program, by name; beside each file lies its model card, NAME.md."""
    return {file.stem: file for file in sorted((paths.resources() / "teachers").glob("*.safetensors"))}


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict in a checkpoint file, on the CPU, without wrappers and without the prefixes that
    wrapping modules add to names. WeightsError when the file is not a checkpoint. Runs no code from the
    file."""
    _demand_file(path)
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    state = _unwrap(content, path)
    for prefix in PREFIXES * 2:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def fit(module: nn.Module, state: Mapping[str, Tensor], where: str, keep_head: bool = False) -> None:
    """Copy `state` into `module`, every tensor of it, or raise WeightsError and change nothing.

    where: the file, for messages. keep_head: leave the class head as it is when the number of classes
    differs. Layers that go by another name elsewhere (`fc` for `linear`) are renamed; batch counts of
    norms may be missing.
    """
    own = module.state_dict()
    given = _rename(state, own)
    head = {f"{classifier(module)}.{kind}" for kind in ("weight", "bias")}
    own_counts = {name: tensor for name, tensor in own.items() if name.endswith("num_batches_tracked")}
    given = own_counts | given
    differing = {
        name: (tuple(given[name].shape), tuple(own[name].shape))
        for name in own
        if name in given and given[name].shape != own[name].shape
    }
    if keep_head and differing and set(differing) <= head:
        given |= {name: own[name] for name in differing}
        differing = {}
    missing = [name for name in own if name not in given]
    unexpected = [name for name in given if name not in own]
    if missing or unexpected or differing:
        raise _mismatch(where, missing, unexpected, differing, head)
    own.update(given)  # a plain dict would lack the versions of the module's parts, which some of them demand
    module.load_state_dict(own)


def save_state(
    paths: Path | Iterable[Path], state: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a state dict as safetensors, to one place or the same to several: to a temporary name, synced,
    then renamed, so that a file is always whole. StoreError when the disk refuses."""
    content = save(
        {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in state.items()},
        dict(metadata or {}),
    )
    for path in [paths] if isinstance(paths, Path) else paths:
        with replacing(path) as temporary:
            temporary.write_bytes(content)


def read_metadata(path: Path) -> dict[str, str]:
    """The texts in a safetensors file's header; empty when there are none. WeightsError when it is no such
    file."""
    _demand_file(path)
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a readable safetensors file ({error}).") from error


def _bundled(name: str) -> Path:
    known = bundled()
    if name not in known:
        there = f"There are {', '.join(known)}." if known else "This installation has none."
        raise WeightsError(f"no bundled weights '{name}'{did_you_mean(name, known)}.", there)
    return known[name]


def _demand_file(path: Path) -> None:
    if path.is_dir():
        raise WeightsError(f"{path}: a folder, not a checkpoint file.")
    if not path.is_file():
        siblings = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
        raise WeightsError(f"{path}: no such file{did_you_mean(path.name, siblings)}.")
    if path.stat().st_size == 0:
        raise WeightsError(f"{path}: the file is empty.", "Fetch or copy it again.")


def _read_safetensors(path: Path) -> Any:
    try:
        return load_file(path)
    except Exception as error:  # also KeyError and ValueError, for numbers that torch does not have
        raise WeightsError(
            f"{path}: not a whole safetensors file ({error}).", "Fetch or copy it again."
        ) from error


def _read_pickle(path: Path) -> Any:
    try:
        with warnings.catch_warnings():  # torch's advice on old and new pickles is not for our users
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is not one
        # Something other than tensors, numbers, texts and containers; torch may say what only in the context.
        found = re.search(r"GLOBAL (\S+)", f"{error} {error.__context__}")
        if found is None:
            raise WeightsError(
                f"{path}: not a checkpoint, cut off, or not safe to read ({type(error).__name__}).",
                "Expected a state dict in a .safetensors, .pt, .pth, .th or .bin file.",
            ) from error
        raise WeightsError(
            f"{path}: refused: besides tensors it holds Python objects ({found[1]}), which could run code "
            "when loaded. Nothing was run.",
            "Save the state dict alone: torch.save(model.state_dict(), ...) or safetensors.",
        ) from error


def _unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    """The innermost state dict: names to tensors."""
    for _ in range(4):  # a checkpoint in a checkpoint; a bound, because a dict may hold itself
        if not isinstance(content, Mapping):
            break
        inner = [content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)]
        if not inner:
            break
        content = inner[0]
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: holds a {type(content).__name__}, not a state dict (names to tensors).")
    state = {
        name: tensor
        for name, tensor in content.items()
        if isinstance(name, str) and isinstance(tensor, Tensor)
    }
    if not state:
        entries = _some(str(key) for key in content) or "none"
        raise WeightsError(f"{path}: no tensors by name in it; its entries are: {entries}.")
    return state


def _rename(state: Mapping[str, Tensor], own: Iterable[str]) -> dict[str, Tensor]:
    """`state` under the names that a module uses, where other codebases call the same things otherwise."""
    renamed = dict(state)
    for prefix in PARTS:
        part = {name.removeprefix(prefix): t for name, t in renamed.items() if name.startswith(prefix)}
        if part and not any(name.startswith(prefix) for name in own):
            renamed = part
    words = {word for name in own for word in name.split(".")}
    for group in ALIASES:
        for ours in words.intersection(group):
            theirs = set(group) - words
            renamed = {
                ".".join(ours if word in theirs else word for word in name.split(".")): tensor
                for name, tensor in renamed.items()
            }
    return renamed


def _mismatch(
    where: str,
    missing: list[str],
    unexpected: list[str],
    differing: dict[str, tuple[tuple[int, ...], tuple[int, ...]]],
    head: set[str],
) -> WeightsError:
    heads = [shapes for name, shapes in differing.items() if name in head and shapes[0][:1] != shapes[1][:1]]
    classes = f"the file has {heads[0][0][0]} classes, the data {heads[0][1][0]}" if heads else ""
    if heads and not missing and not unexpected and set(differing) <= head:
        hint = "Choose data with the same classes, or train a teacher on this data."
        return WeightsError(f"{where}: {classes}.", hint)
    shapes = (
        f"{name} {list(file)} in the file, {list(model)} in the model"
        for name, (file, model) in differing.items()
    )
    parts = [
        classes,
        f"missing in the file: {_some(missing)}" if missing else "",
        f"unknown to the model: {_some(unexpected)}" if unexpected else "",
        f"other shapes: {_some(shapes)}" if differing else "",
    ]
    message = f"{where}: does not fit the model: {'; '.join(part for part in parts if part)}."
    return WeightsError(message, _way_out(missing, unexpected, differing))


def _way_out(missing: list[str], unexpected: list[str], differing: Mapping[str, object]) -> str:
    if missing and all("downsample" in name for name in missing) and not unexpected:
        return "It was made with shortcut A: set the model's `shortcut` to A."
    if unexpected and all("downsample" in name for name in unexpected) and not missing:
        return "It was made with shortcut B: set the model's `shortcut` to B."
    if any("position" in name or "pos_embedding" in name for name in differing):
        return "It was made for another image size."
    return "Choose the model that it was made for."


def _some(names: Iterable[str]) -> str:
    """The first few of many, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more
