"""The bundled digits, MNIST and CIFAR in their real file formats, arrays; and what a bad file gets."""

from __future__ import annotations

import hashlib
import pickle
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from kd_engine.datasets import HALF, IMAGENET, Loaded, _fetch
from kd_engine.datasets.arrays import Arrays
from kd_engine.datasets.cifar10 import Cifar10
from kd_engine.datasets.cifar100 import Cifar100
from kd_engine.datasets.digits import Digits
from kd_engine.datasets.fashion_mnist import FashionMnist
from kd_engine.datasets.mnist import Mnist
from kd_engine.errors import DataError
from tests.engine.data_files import cifar_files, rng, write_archive, write_mnist


def quiet(what: str, fraction: float | None) -> None:
    pass


@pytest.fixture
def offline(monkeypatch):
    """Nothing can be downloaded; returns the addresses that were tried."""
    tried = []

    def refuse(url, timeout):
        tried.append(url)
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    return tried


def digits() -> Loaded:
    return Digits.load(Digits.Knobs(), Path("nowhere"), quiet, 64)


def test_digits_are_split_for_ever_and_evenly():
    data = digits()
    assert (len(data.train), len(data.test), data.test.size) == (1437, 360, 32)
    assert (np.abs(np.bincount(data.test.labels) - 36) <= 1).all()
    assert hashlib.sha256(data.test.labels.astype("<i8").tobytes()).hexdigest()[:16] == "f9291f465e62b5bb"
    assert (data.mean, data.std) == HALF


def test_digits_are_the_originals_drawn_larger():
    data = digits()
    everything = np.concatenate([part.images(np.arange(len(part)))[:, 0] for part in (data.train, data.test)])
    blocks = everything.reshape(-1, 8, 4, 8, 4).mean((2, 4)) / 255 * 16
    originals = load_digits().images
    order = [
        np.argsort(blocks.reshape(-1, 64) @ np.arange(64)),
        np.argsort(originals.reshape(-1, 64) @ np.arange(64)),
    ]
    assert np.corrcoef(blocks[order[0]].mean(0).ravel(), originals.mean(0).ravel())[0, 1] > 0.99
    assert blocks.mean() == pytest.approx(originals.mean(), rel=0.02)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("folder", ["mnist", "MNIST/raw"])
def test_mnist_is_read_as_downloaded_or_unpacked_from_our_folder_or_torchvisions(tmp_path, packed, folder):
    written = write_mnist(tmp_path / folder, packed)
    data = Mnist.load(Mnist.Knobs(), tmp_path, quiet, 64)
    for part, name in ((data.train, "train"), (data.test, "test")):
        images = part.images(np.arange(len(part)))
        assert images.shape[1:] == (3, 32, 32)
        for channel in range(3):
            np.testing.assert_array_equal(images[:, channel, 2:30, 2:30], written[f"{name}_images"])
        assert images.sum() == 3 * written[f"{name}_images"].sum(dtype=np.int64)  # black around
        np.testing.assert_array_equal(part.labels, written[f"{name}_labels"])
    assert data.classes[3] == "3"


def test_fashion_mnist_is_not_mistaken_for_mnist(tmp_path, offline):
    write_mnist(tmp_path / "mnist")
    with pytest.raises(DataError):
        FashionMnist.load(FashionMnist.Knobs(), tmp_path, quiet, 64)
    write_mnist(tmp_path / "fashion-mnist")
    assert FashionMnist.load(FashionMnist.Knobs(), tmp_path, quiet, 64).classes[9] == "ankle boot"


@pytest.mark.parametrize(
    ("dataset", "files"),
    [
        (Mnist, ["train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"]),
        (Cifar10, ["cifar-10-binary.tar.gz"]),
        (Cifar100, ["cifar-100-binary.tar.gz"]),
    ],
)
def test_offline_the_error_says_which_files_to_put_where(tmp_path, offline, dataset, files):
    with pytest.raises(DataError) as error:
        dataset.load(dataset.Knobs(), tmp_path, quiet, 64)
    for text in (dataset.name, str(tmp_path / dataset.name), "no network", *files):
        assert text in str(error.value)
    assert offline
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


def test_only_what_is_missing_is_asked_for(tmp_path, offline):
    write_mnist(tmp_path / "mnist")
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError) as error:
        Mnist.load(Mnist.Knobs(), tmp_path, quiet, 64)
    assert "t10k-labels" in str(error.value)
    assert "train-images" not in str(error.value)
    assert len(offline) == 2  # both mirrors


def test_a_download_tells_how_far_it_is_and_goes_on_to_the_next_mirror(tmp_path):
    source = tmp_path / "there"
    source.mkdir()
    data = rng().bytes(200_000)
    (source / "x.bin").write_bytes(data)
    urls = ((tmp_path / "gone" / "x.bin").as_uri(), (source / "x.bin").as_uri())
    told = []
    remote = _fetch.Remote("x.bin", urls, hashlib.md5(data).hexdigest())
    _fetch.fetch("toy", [remote], tmp_path / "here", lambda *report: told.append(report))
    assert (tmp_path / "here" / "x.bin").read_bytes() == data
    assert [what for what, _ in told] == ["downloading x.bin"] * len(told)
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    assert len(fractions) > 2
    assert fractions[-1] == 1


def test_a_damaged_download_is_not_kept(tmp_path):
    (tmp_path / "x.bin").write_bytes(b"half of it")
    remote = _fetch.Remote("x.bin", ((tmp_path / "x.bin").as_uri(),), "0" * 32)
    with pytest.raises(DataError, match="not the file expected"):
        _fetch.fetch("toy", [remote], tmp_path / "here", quiet)
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: b"", lambda data: b"not gzip at all"]
)
def test_a_damaged_idx_file_is_named(tmp_path, damage):
    write_mnist(tmp_path / "mnist")
    file = tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte"):
        Mnist.load(Mnist.Knobs(), tmp_path, quiet, 64)


def test_labels_that_do_not_belong_to_the_images_are_refused(tmp_path):
    write_mnist(tmp_path / "mnist", packed=False)
    labels, images = (tmp_path / "mnist" / f"t10k-{kind}-ubyte" for kind in ("labels-idx1", "images-idx3"))
    kept = labels.read_bytes()
    labels.write_bytes((tmp_path / "mnist" / "train-labels-idx1-ubyte").read_bytes())
    with pytest.raises(DataError, match="do not belong together"):
        Mnist.load(Mnist.Knobs(), tmp_path, quiet, 64)
    labels.write_bytes(kept[:-1] + b"\x63")
    with pytest.raises(DataError, match="expected labels 0 to 9"):
        Mnist.load(Mnist.Knobs(), tmp_path, quiet, 64)
    labels.write_bytes(images.read_bytes())
    with pytest.raises(DataError, match="not a whole idx file"):
        Mnist.load(Mnist.Knobs(), tmp_path, quiet, 64)


@pytest.mark.parametrize("packed", [True, False])
def test_cifar10_is_read_from_the_binary_version(tmp_path, packed):
    files, pixels = cifar_files(10)
    if packed:
        write_archive(tmp_path / "cifar10" / "cifar-10-binary.tar.gz", "cifar-10-batches-bin", files)
    else:
        folder = tmp_path / "cifar10" / "cifar-10-batches-bin"
        folder.mkdir(parents=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)
    data = Cifar10.load(Cifar10.Knobs(), tmp_path, quiet, 64)
    train = np.concatenate([pixels[f"data_batch_{k}.bin"] for k in range(1, 6)])
    np.testing.assert_array_equal(data.train.images(np.arange(100)), train)
    np.testing.assert_array_equal(data.test.images(np.arange(20)), pixels["test_batch.bin"])
    assert data.train.labels.tolist() == [k % 10 for k in range(20)] * 5
    assert data.classes[:3] == ("airplane", "automobile", "bird")


def test_cifar100_uses_the_fine_labels(tmp_path):
    files, pixels = cifar_files(100)
    write_archive(tmp_path / "cifar-100-binary.tar.gz", "cifar-100-binary", files)
    data = Cifar100.load(Cifar100.Knobs(), tmp_path, quiet, 64)
    assert data.train.labels.tolist() == [k % 100 for k in range(200)]
    assert len(data.classes) == 100
    np.testing.assert_array_equal(data.test.images(np.arange(200)), pixels["test.bin"])


def test_cifars_pickles_are_never_opened(tmp_path, offline):
    """The python version of the archive, with code inside, in the places where torchvision would open it."""
    marker = tmp_path / "was run"

    class Code:
        def __reduce__(self):
            return Path.touch, (marker,)

    evil = pickle.dumps(Code())
    for folder in (tmp_path / "cifar-10-batches-py", tmp_path / "cifar10" / "cifar-10-batches-py"):
        folder.mkdir(parents=True)
        for name in ("data_batch_1", "test_batch", "batches.meta"):
            (folder / name).write_bytes(evil)
    with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz"):
        Cifar10.load(Cifar10.Knobs(), tmp_path, quiet, 64)
    assert not marker.exists()


def test_a_damaged_cifar_archive_is_named(tmp_path):
    files, _ = cifar_files(10)
    archive = tmp_path / "cifar10" / "cifar-10-binary.tar.gz"

    def refusal() -> str:
        with pytest.raises(DataError) as error:
            Cifar10.load(Cifar10.Knobs(), tmp_path, quiet, 64)
        return str(error.value)

    write_archive(archive, "x", {**files, "data_batch_3.bin": files["data_batch_3.bin"][:-5]})
    assert "data_batch_3.bin is cut short" in refusal()
    write_archive(archive, "x", {name: data for name, data in files.items() if name != "test_batch.bin"})
    assert "lacks test_batch.bin" in refusal()
    write_archive(archive, "x", {**files, "test_batch.bin": b"\x63" + files["test_batch.bin"][1:]})
    assert "not one of the 10 classes" in refusal()
    archive.write_bytes(archive.read_bytes()[:5000])
    assert "cannot be read" in refusal()


def arrays(file: Path, **options) -> Loaded:
    return Arrays.load(Arrays.Knobs(path=str(file), **options), Path("nowhere"), quiet, 64)


def save(file: Path, **values) -> Path:
    np.savez(file, **values)
    return file


def some(n: int, *shape: int) -> np.ndarray:
    return rng(n).integers(0, 256, (n, *shape), dtype=np.uint8)


def both(images: np.ndarray) -> dict[str, object]:
    """Ten images of two classes, as training and test part alike."""
    labels = [0, 1] * 5
    return {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}


@pytest.mark.parametrize(
    "names", ["train_images train_labels test_images test_labels", "x_train y_train x_test y_test"]
)
def test_arrays_in_two_parts(tmp_path, names):
    train, test = some(20, 12, 12, 3), some(10, 12, 12, 3)
    values = (train, np.arange(20) % 4, test, np.arange(10) % 4)
    data = arrays(save(tmp_path / "a.npz", **dict(zip(names.split(), values, strict=True))))
    np.testing.assert_array_equal(data.train.images(np.arange(20)), train.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(data.test.images(np.arange(10)), test.transpose(0, 3, 1, 2))
    assert data.test.labels.tolist() == [k % 4 for k in range(10)]
    assert data.classes == ("0", "1", "2", "3")
    assert (data.mean, data.std) == IMAGENET
    assert data.notes == ()


def test_arrays_without_a_test_part_are_split_evenly_by_their_own_seed(tmp_path):
    images = some(100, 8, 8)
    file = save(tmp_path / "a.npz", images=images, labels=np.repeat([0, 1], 50))
    one, same, other = arrays(file), arrays(file), arrays(file, split_seed=1)
    assert np.bincount(one.test.labels).tolist() == [10, 10]
    assert one.test.fingerprint() == same.test.fingerprint() != other.test.fingerprint()
    both = np.concatenate([part.images(np.arange(len(part)))[:, 0] for part in (one.train, one.test)])
    assert sorted(map(bytes, both)) == sorted(map(bytes, images))
    assert "20 of 100" in one.notes[0]
    assert (one.mean, one.std) == HALF  # grey
    assert len(arrays(file, test_share=0.5).test) == 50


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x[..., None],
        lambda x: x[:, None],
        lambda x: x.astype(np.int64),
        lambda x: x.astype(np.float32),
        lambda x: x.astype(np.float64) / 255,
    ],
)
def test_grey_arrays_of_any_layout_and_type_are_the_same_images(tmp_path, change):
    images = some(10, 9, 9)
    data = arrays(save(tmp_path / "a.npz", images=change(images), labels=[[0], [1]] * 5))
    plain = arrays(save(tmp_path / "b.npz", images=images, labels=[0, 1] * 5))
    assert data.train.fingerprint() == plain.train.fingerprint()


def test_truth_values_are_black_and_white(tmp_path):
    images = some(10, 9, 9) > 127
    data = arrays(save(tmp_path / "a.npz", **both(images)))
    np.testing.assert_array_equal(data.train.images(np.arange(10))[:, 0], images * 255)


def test_class_names_come_from_the_file(tmp_path):
    values = {"images": some(10, 8, 8), "labels": [3, 5] * 5}
    assert arrays(save(tmp_path / "a.npz", **values)).classes == ("3", "5")
    names = ["a", "b", "c", "d", "e", "f"]
    assert arrays(save(tmp_path / "b.npz", **values, class_names=names)).classes == ("d", "f")
    values["labels"] = ["cat", "dog"] * 5
    data = arrays(save(tmp_path / "c.npz", **values))
    assert data.classes == ("cat", "dog")
    assert set(data.train.labels) == {0, 1}


def test_images_that_are_not_square_are_cut_to_their_middle(tmp_path):
    images = np.zeros((10, 8, 14), np.uint8)
    images[:, :, 3:11] = some(10, 8, 8)
    data = arrays(save(tmp_path / "a.npz", **both(images)))
    np.testing.assert_array_equal(data.train.images(np.arange(10))[:, 0], images[:, :, 3:11])
    assert "8×8" in data.notes[0]
    assert arrays(tmp_path / "a.npz", size=24).train.size == 24


REFUSALS = {
    "other names": ({"pictures": some(4, 8, 8)}, "holds pictures. Expected images and labels"),
    "no labels": ({"images": some(4, 8, 8)}, "Expected images and labels"),
    "flat images": ({"images": some(4, 64), "labels": [0, 1, 0, 1]}, "shape (4, 64)"),
    "four channels": ({"images": some(4, 8, 8, 4), "labels": [0, 1, 0, 1]}, "shape (4, 8, 8, 4)"),
    "too few labels": ({"images": some(4, 8, 8), "labels": [0, 1]}, "there are 4 images"),
    "labels that are shares": (
        {"images": some(4, 8, 8), "labels": [0.1, 0.9, 0.2, 0.3]},
        "whole numbers or texts",
    ),
    "one class": ({"images": some(4, 8, 8), "labels": [1] * 4}, "one class only"),
    "negative values": (
        {"images": some(4, 8, 8) - 128.0, "labels": [0, 1] * 2},
        "Expected whole numbers from 0 to 255",
    ),
    "large values": ({"images": some(4, 8, 8) * 300.0, "labels": [0, 1] * 2}, "from 0 to"),
    "not numbers": ({"images": np.full((4, 8, 8), np.nan), "labels": [0, 1] * 2}, "nan"),
    "objects": ({"images": np.array([None] * 4, object), "labels": [0, 1] * 2}, "plain arrays"),
    "a label of the test part alone": (
        {"x_train": some(4, 8, 8), "y_train": [0, 1] * 2, "x_test": some(2, 8, 8), "y_test": [0, 9]},
        "labels in the test part alone: 9",
    ),
    "grey and colour": (
        {"x_train": some(4, 8, 8), "y_train": [0, 1] * 2, "x_test": some(2, 8, 8, 3), "y_test": [0, 1]},
        "mixed",
    ),
    "one of each": ({"images": some(2, 8, 8), "labels": [0, 1]}, "cannot be split"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_arrays_that_cannot_be_used_say_why(tmp_path, case):
    values, text = REFUSALS[case]
    with pytest.raises(DataError) as error:
        arrays(save(tmp_path / "a.npz", **values))
    assert text in str(error.value)


def test_files_that_are_no_arrays_say_so(tmp_path):
    (tmp_path / "text.npz").write_text("hello")
    np.save(tmp_path / "single.npy", some(4, 8, 8))
    (tmp_path / "cut.npz").write_bytes(save(tmp_path / "a.npz", images=some(4, 8, 8)).read_bytes()[:100])
    for name, text in {
        "none.npz": "no file",
        "text.npz": "cannot be read",
        "single.npy": "single array",
        "cut.npz": "cannot be read",
    }.items():
        with pytest.raises(DataError, match=text):
            arrays(tmp_path / name)
