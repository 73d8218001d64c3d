"""What every dataset has to keep: bundled, generated, or read from files in its own format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kd_engine.data import prepare
from kd_engine.datasets import Loaded
from kd_engine.errors import DataError
from kd_engine.knobs import knobs_of
from kd_engine.registry import discover, find
from tests.engine.data_files import cifar_files, rng, write_archive, write_mnist, write_pictures

NAMES = sorted(discover("datasets").plugins)


def _mnist(folder: Path) -> dict[str, Any]:
    write_mnist(folder / "mnist")
    return {}


def _fashion(folder: Path) -> dict[str, Any]:
    write_mnist(folder / "fashion-mnist")
    return {}


def _cifar10(folder: Path) -> dict[str, Any]:
    write_archive(folder / "cifar10" / "cifar-10-binary.tar.gz", "cifar-10-batches-bin", cifar_files(10)[0])
    return {}


def _cifar100(folder: Path) -> dict[str, Any]:
    write_archive(folder / "cifar100" / "cifar-100-binary.tar.gz", "cifar-100-binary", cifar_files(100)[0])
    return {}


def _pictures(folder: Path) -> dict[str, Any]:
    write_pictures(folder / "pictures", 10)
    return {"path": str(folder / "pictures")}


def _arrays(folder: Path) -> dict[str, Any]:
    images = rng().integers(0, 256, (60, 20, 20, 3), dtype=np.uint8)
    np.savez(folder / "arrays.npz", images=images, labels=np.arange(60) % 3)
    return {"path": str(folder / "arrays.npz")}


# What a dataset needs before it loads; one that is not here loads with its defaults, or asks for a line.
MAKERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "mnist": _mnist,
    "fashion-mnist": _fashion,
    "cifar10": _cifar10,
    "cifar100": _cifar100,
    "image-folder": _pictures,
    "arrays": _arrays,
    "scenes": lambda folder: {"samples": 120},
}


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    plugin = find("datasets", request.param)
    needs_files = any(knob.default is None and not knob.optional for knob in knobs_of(plugin.Knobs))
    if request.param not in MAKERS and (needs_files or not plugin.offline):
        pytest.skip(f"{request.param} needs files: add a maker for it to this test")
    return str(request.param)


def load(name: str, folder: Path, memory_mb: int = 256) -> Loaded:
    plugin = find("datasets", name)
    settings = MAKERS.get(name, lambda folder: {})(folder)
    loaded: Loaded = plugin.load(plugin.Knobs(**settings), folder, lambda what, fraction: None, memory_mb)
    return loaded


def test_no_dataset_fails_to_import():
    assert discover("datasets").broken == []
    assert {
        "digits",
        "scenes",
        "mnist",
        "fashion-mnist",
        "cifar10",
        "cifar100",
        "image-folder",
        "arrays",
    } <= set(NAMES)


def test_images_are_square_rgb_bytes_and_labels_are_classes(name, tmp_path):
    data = load(name, tmp_path)
    assert data.train.size == data.test.size
    for part in (data.train, data.test):
        assert len(part) > 0
        chosen = np.array([len(part) - 1, 0, 0])
        images = part.images(chosen)
        assert images.dtype == np.uint8
        assert images.shape == (3, 3, part.size, part.size)
        np.testing.assert_array_equal(images[1], images[2])
        assert part.labels.dtype == np.int64
        assert part.labels.shape == (len(part),)
        assert part.labels.min() >= 0
        assert part.labels.max() < len(data.classes)
    assert set(data.train.labels) == set(range(len(data.classes)))
    assert len(set(data.classes)) == len(data.classes) >= 2
    assert all(0 < value < 1 for value in (*data.mean, *data.std))


def test_masks_fit_the_images_where_they_are_known(name, tmp_path):
    data = load(name, tmp_path)
    for part in (data.train, data.test):
        masks = part.masks(np.array([1, 0]))
        if masks is not None:
            assert masks.dtype == bool
            assert masks.shape == (2, part.size, part.size)
            assert masks.any((1, 2)).all()


def test_training_and_test_parts_share_no_image(name, tmp_path):
    data = load(name, tmp_path)
    train, test = (
        {image.tobytes() for image in part.images(np.arange(len(part)))} for part in (data.train, data.test)
    )
    assert not train & test


def test_loading_twice_gives_the_same(name, tmp_path):
    one, two = load(name, tmp_path), load(name, tmp_path)
    for first, second in ((one.train, two.train), (one.test, two.test)):
        assert first.fingerprint() == second.fingerprint()
        np.testing.assert_array_equal(first.labels, second.labels)
    assert one.train.fingerprint() != one.test.fingerprint()


def test_it_can_be_made_ready_and_batched(name, tmp_path):
    data = prepare(load(name, tmp_path), labels_per_class=1, augment="crop-flip", views=4)
    inputs, targets = data.batches("train")(np.array([0, 1]), np.array([0, 3]))
    assert inputs.shape == (2, 3, data.size, data.size)
    assert inputs.isfinite().all()
    assert data.labelled.sum() == len(data.classes)
    assert targets.shape == (2,)


def test_what_is_not_there_is_a_data_error(name, tmp_path, monkeypatch):
    """No network, no files: never a stack trace from deep inside."""
    plugin = find("datasets", name)
    required = [knob.name for knob in knobs_of(plugin.Knobs) if knob.default is None and not knob.optional]
    if plugin.offline and not required:
        pytest.skip(f"{name} is always there")

    def refuse(url: str, timeout: float) -> None:
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    knobs = plugin.Knobs(**{name: str(tmp_path / "gone") for name in required})
    with pytest.raises(DataError) as error:
        plugin.load(knobs, tmp_path, lambda what, fraction: None, 64)
    assert error.value.hint
