"""A teacher that is asked once for each (sample, view): its answers are kept, on disk or in memory.

What it answers is rounded to what is kept, half precision, also when it is asked for the first time. So a
run's numbers do not depend on what was kept before: on the CPU a model says the same of an image in any
batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from kd_engine.activity import is_activity, place_of
from kd_engine.backend import Backend
from kd_engine.batches import Batch, Batches, Draw
from kd_engine.cache import Place, Shelf, key_of
from kd_engine.codes import LOGITS, Code, Highest, code_for
from kd_engine.data import Data, PartName
from kd_engine.errors import StoreError
from kd_engine.memory import Rows
from kd_engine.nearby import Nearby, nearby
from kd_engine.recipe import ModelSection
from kd_engine.signals import Signals
from kd_engine.taps import ATTENTION
from kd_engine.teacher import LiveTeacher, Model, Note

CHUNK = 32  # images are asked about in whole multiples of it, so that odd batches take the same arithmetic
CHECKED = 8  # rows that are compared with fresh answers when kept ones are taken up
SHARE = 0.5  # of the budget that one run may take

Mode = Literal["off", "memory", "disk"]


class Room(Protocol):
    """Where it teaches: see kd_engine.classroom."""

    backend: Backend
    data: Data

    def batches(self, part: PartName) -> Batches: ...


class CachedTeacher(LiveTeacher):
    """As a live one, with its answers on the training part kept."""

    def __init__(self, model: Model, section: ModelSection, room: Room, mode: Mode, budget_mb: int) -> None:
        super().__init__(model, room.backend)
        self._notes: list[Note] = []
        self._room, self._data = room, room.data
        self._mode, self._budget = mode, budget_mb * 10**6
        machine = (room.backend.device.type, str(room.backend.dtype), torch.__version__)
        self._of = (section.model, sorted(section.more.items()), _digest(model.module), *machine)
        self._about = {"teacher": section.model, "weights": section.weights, "samples": len(room.data.train)}
        self._kept: dict[str, tuple[Rows, Code]] = {}
        self._near: Nearby | None = None
        self._place: Place | None = None
        self._writes = True
        self._checked = True
        self._weighed = False  # what it costs that not all logits are kept

    def listen(self, taps: Iterable[str]) -> None:
        super().listen(taps)
        self._put_away()
        codes = {name: code_for(name, shape) for name, shape in self._shapes().items()}
        rows = len(self._data.train) * self._data.views
        wanted = rows * sum(2 * code.words for code in codes.values())
        if not all(code.words for code in codes.values()):
            self._notes.append(
                Note("info", "The teacher runs live: a method asks for what depends on the labels.")
            )
        elif wanted > self._budget * SHARE:
            self._notes.append(Note("info", _too_large(wanted, self._budget, self._mode)))
        else:
            try:
                self._take_up(rows, codes, wanted)
            except (StoreError, OSError) as error:
                self._put_away()
                self._notes.append(
                    Note("warning", f"The teacher runs live, its answers cannot be kept: {error}")
                )

    def signals(self, batch: Batch) -> Signals:
        if not self._kept:
            return super().signals(batch)
        if not self._checked:
            self._check()
        rows = batch.draw.indices * self._data.views + batch.draw.views
        if self._near is not None and (near := self._near.get(rows)) is not None:
            return self._signals(near)
        words, there = {}, None
        for name, (kept, _) in self._kept.items():
            words[name], found = kept.get(rows)
            there = found if there is None else there & found
        if there is not None and not there.all():
            missing = np.flatnonzero(~there)
            fresh = self._fresh(batch.inputs, missing)
            for name, new in fresh.items():
                words[name][missing] = new
            self._keep(rows[missing], fresh)
        device = self._backend.device
        sent = {name: torch.from_numpy(w).to(device, non_blocking=True) for name, w in words.items()}
        if self._near is not None:
            self._near.put(rows, sent)
        return self._signals(sent)

    def predictions(self, batches: Batches) -> np.ndarray:
        """Its logits (N, C) on a part, unaugmented, float32; kept too, where the disk allows."""
        if self._mode != "disk":
            return super().predictions(batches)
        subset = batches.subset
        key = key_of(self._of, subset.fingerprint(), self._data.mean, self._data.std)
        try:
            place = Shelf().open(key, {**self._about, "samples": len(subset), "part": "held out"})
        except StoreError:
            return super().predictions(batches)
        try:
            return _memoised(
                place.folder / "predictions.npy", lambda: super(CachedTeacher, self).predictions(batches)
            )
        finally:
            place.close()

    def take_notes(self) -> list[Note]:
        notes, self._notes = self._notes, []
        return notes

    def close(self) -> None:
        super().close()
        self._put_away()

    # -- what is kept --------------------------------------------------------------------------------------

    def _take_up(self, rows: int, codes: Mapping[str, Code], wanted: int) -> None:
        """Open what is kept of such answers, and look whether it is true."""
        folder = None
        if self._mode == "disk":
            key = key_of(self._of, self._data.fingerprint)
            shelf = Shelf()
            self._place = shelf.open(key, self._about)
            if not shelf.make_room(wanted, self._budget, key):
                raise StoreError(
                    "other runs are using all the room that there is for it.", "Raise hardware.cache_mb."
                )
            folder = self._place.folder
        for name, code in codes.items():
            self._kept[name] = Rows(rows, code.words, folder and folder / f"{name}-{code.words}"), code
        widths = {name: code.words for name, code in codes.items()}
        self._near = nearby(rows, widths, self._backend.device)
        self._checked = False
        known = len(self._filled()) / rows
        told = f"The teacher's answers are kept: {known:.0%} of up to {wanted / 1e6:,.0f} MB are there."
        self._notes.append(Note("info", told, {"known": known, "bytes": wanted}))

    def _filled(self) -> np.ndarray:
        """The rows of which every answer seems to be there."""
        first, *others = (kept.filled() for kept, _ in self._kept.values())
        for rows in others:
            first = np.intersect1d(first, rows, assume_unique=True)
        return first

    def _check(self) -> None:
        """Once, before the first use: compare a few kept rows with fresh answers, and forget all where they
        differ."""
        rows = self._filled()
        self._checked = True
        if not len(rows):
            return
        some = np.random.default_rng(0).choice(rows, min(CHECKED, len(rows)), replace=False)
        draw = Draw(some // self._data.views, some % self._data.views)
        inputs = self._backend.lay_out(self._room.batches("train").inputs(*draw))
        fresh = self._fresh(inputs, np.arange(len(some)))
        for name, (kept, code) in self._kept.items():
            words, there = kept.get(some)
            old, new = (code.decode(torch.from_numpy(w.astype(np.uint16))) for w in (words, fresh[name]))
            if not torch.allclose(
                old[torch.from_numpy(there)], new[torch.from_numpy(there)], rtol=0.02, atol=0.02
            ):
                self._forget()
                self._notes.append(
                    Note("warning", "Kept answers of the teacher were not what it says: made anew.")
                )
                return

    def _forget(self) -> None:
        for kept, _ in self._kept.values():
            kept.clear()

    def _keep(self, rows: np.ndarray, fresh: Mapping[str, np.ndarray]) -> None:
        if not self._writes:
            return
        try:
            for name, words in fresh.items():
                self._kept[name][0].put(rows, words)
        except OSError as error:  # a full disk: what is there stays good
            self._writes = False
            self._notes.append(
                Note("warning", f"The teacher's answers are no longer kept: {error.strerror}.")
            )

    def _put_away(self) -> None:
        self._kept, self._near = {}, None
        if self._place is not None:
            self._place.close()
            self._place = None

    # -- from the model to words and back ------------------------------------------------------------------

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Of one sample, of all that is listened to."""
        shapes: dict[str, tuple[int, ...]] = {LOGITS: (self.shapes.classes,)}
        for name in self.heard:
            of = self.shapes.attention if name.startswith(ATTENTION) else self.shapes.taps
            shape = of.get(place_of(name).removeprefix(ATTENTION), ())
            shapes[name] = shape[1:] if is_activity(name) else shape
        return shapes

    def _fresh(self, inputs: Tensor, places: np.ndarray) -> dict[str, np.ndarray]:
        """What the model says of some of the inputs, as it is kept: words (n, words) by name."""
        whole = np.resize(
            places, -(-len(places) // CHUNK) * CHUNK
        )  # the first ones again, to fill the last chunk
        chosen = self._backend.lay_out(inputs[torch.from_numpy(whole).to(inputs.device)])
        nobody = Draw(whole, whole)
        said = super().signals(Batch(nobody, chosen, chosen.new_empty(0)))
        tensors = {LOGITS: said.logits, **said.taps, **{ATTENTION + k: v for k, v in said.attention.items()}}
        n = len(places)
        self._weigh(said.logits[:n])
        return {name: code.encode(tensors[name][:n]).cpu().numpy() for name, (_, code) in self._kept.items()}

    def _weigh(self, logits: Tensor) -> None:
        """Once, where only the highest of very many logits are kept: tell how far that is from them all."""
        code = self._kept[LOGITS][1]
        if self._weighed or not isinstance(code, Highest):
            return
        self._weighed = True
        away = code.error(logits)
        mean, worst = float(away.mean()), float(away.max())
        told = (
            f"Of {code.classes:,} logits the highest {code.top} are kept, the others share what is left of "
            f"the probability. Over the first {len(logits)} images that is {mean:.2g} nats from what the "
            f"teacher says (KL), {worst:.2g} at most. With hardware.cache off it is asked for all of them."
        )
        self._notes.append(Note("info", told, {"kl": mean, "kl_max": worst, "images": len(logits)}))

    def _signals(self, words: Mapping[str, Tensor]) -> Signals:
        tensors = {name: code.decode(words[name]) for name, (_, code) in self._kept.items()}
        logits = tensors.pop(LOGITS)
        attention = {k.removeprefix(ATTENTION): v for k, v in tensors.items() if k.startswith(ATTENTION)}
        taps = {name: value for name, value in tensors.items() if not name.startswith(ATTENTION)}
        return Signals(logits, taps, attention, self._reader.classifier)


def _digest(module: nn.Module) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _memoised(file: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """What the file holds, or what is made and put there."""
    try:
        kept: np.ndarray = np.load(file, allow_pickle=False)
        return kept
    except (OSError, ValueError, EOFError):
        made = make()
    with_suffix = file.with_suffix(f".{id(made)}.npy")
    try:
        np.save(with_suffix, made, allow_pickle=False)
        with_suffix.replace(file)
    except OSError:  # it is only a cache
        with_suffix.unlink(missing_ok=True)
    return made


def _too_large(wanted: int, budget: int, mode: str) -> str:
    asked = f"{wanted / 1e6:,.0f} MB"
    return (
        f"The teacher runs live: its answers would take {asked}, more than half of hardware.cache_mb "
        f"({budget / 1e6:,.0f} MB{' of memory' if mode == 'memory' else ''}). Fewer views take less."
    )
