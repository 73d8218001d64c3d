"""Folders of pictures: any size and mode, damaged files, and every wrong layout, each with a way out."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kd_engine.data import prepare
from kd_engine.datasets import IMAGENET, Loaded, _images, _kept, image_folder
from kd_engine.datasets._images import Files, rgb
from kd_engine.datasets.image_folder import ImageFolder
from kd_engine.errors import DataError
from tests.engine.data_files import write_pictures


def load(folder: Path, memory_mb: int = 64, **options) -> Loaded:
    return ImageFolder.load(
        ImageFolder.Knobs(path=str(folder), **options), Path("nowhere"), lambda *report: None, memory_mb
    )


def refusal(folder: Path, **options) -> str:
    with pytest.raises(DataError) as error:
        load(folder, **options)
    assert error.value.hint
    return str(error.value)


def images(part) -> np.ndarray:
    return part.images(np.arange(len(part)))


@pytest.mark.parametrize("test_name", ["test", "val", "valid", "validation", "Test"])
def test_training_and_test_folders_are_read_as_they_are(tmp_path, test_name):
    train = write_pictures(tmp_path / "train", 5, ("dog", "cat"))
    test = write_pictures(tmp_path / test_name, 2, ("dog", "cat"))
    data = load(tmp_path)
    assert data.classes == ("cat", "dog")
    assert data.train.labels.tolist() == [0] * 5 + [1] * 5
    assert data.test.labels.tolist() == [0] * 2 + [1] * 2
    for part, written in ((data.train, train), (data.test, test)):
        wanted = [written[name].transpose(2, 0, 1) for name in sorted(written)]
        np.testing.assert_array_equal(images(part), wanted)
    assert (data.mean, data.std) == IMAGENET
    assert data.notes == ()


def test_a_second_test_folder_is_left_aside_and_said_so(tmp_path):
    for name in ("train", "test", "val"):
        write_pictures(tmp_path / name)
    assert "val is not used" in load(tmp_path).notes[0]


@pytest.mark.parametrize("below", ["", "train"])
def test_class_folders_alone_are_split_evenly_by_the_knobs(tmp_path, below):
    written = write_pictures(tmp_path / below, 20)
    data, again, other = load(tmp_path), load(tmp_path), load(tmp_path, split_seed=1)
    assert np.bincount(data.test.labels).tolist() == [4, 4]
    assert "8 of 40" in data.notes[0]
    everything = np.concatenate([images(data.train), images(data.test)])
    assert sorted(map(bytes, everything)) == sorted(
        pixels.transpose(2, 0, 1).tobytes() for pixels in written.values()
    )
    assert data.test.fingerprint() == again.test.fingerprint() != other.test.fingerprint()
    assert len(load(tmp_path, test_share=0.5).test) == 20


def test_what_does_not_fit_is_read_when_asked_for_and_is_the_same(tmp_path):
    write_pictures(tmp_path, 30, size=(96, 80))
    here, there = load(tmp_path, 64), load(tmp_path, 1)
    assert isinstance(there.train, Files)
    np.testing.assert_array_equal(images(here.train), images(there.train))
    np.testing.assert_array_equal(here.train.labels, there.train.labels)
    assert there.train.masks(np.arange(2)) is None
    data = prepare(there, augment="crop-flip", views=4)
    inputs, targets = data.batches("train")(np.array([3, 1]), np.array([2, 0]))
    wanted, answers = prepare(here, augment="crop-flip", views=4).batches("train")(
        np.array([3, 1]), np.array([2, 0])
    )
    np.testing.assert_array_equal(inputs, wanted)
    np.testing.assert_array_equal(targets, answers)


def test_large_files_are_read_by_threads_that_end_and_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(_images, "LARGE", 1)
    write_pictures(tmp_path, 30)
    threaded = load(tmp_path)
    monkeypatch.undo()
    np.testing.assert_array_equal(images(threaded.train), images(load(tmp_path).train))


def test_the_fingerprint_of_files_follows_a_changed_file(tmp_path):
    write_pictures(tmp_path, 30, size=(96, 96))
    before = load(tmp_path, 1)
    assert before.train.fingerprint() == load(tmp_path, 1).train.fingerprint()
    os.utime(before.train.files[0], ns=(1, 1))
    assert before.train.fingerprint() != load(tmp_path, 1, size=64).train.fingerprint()
    assert load(tmp_path, 1).train.fingerprint() == before.train.fingerprint()


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [
        ([(16, 16)] * 4, 16),
        ([(224, 224)] * 4, 224),
        ([(300, 300)] * 4, 224),
        ([(20, 30), (30, 20)] * 2, 64),
        ([(100, 120), (96, 99), (400, 300), (100, 500)], 96),
        ([(100, 200)] * 4, 96),
    ],
)
def test_a_size_is_chosen_that_suits_the_pictures(tmp_path, sizes, wanted):
    for k, size in enumerate(sizes):
        folder = tmp_path / "ab"[k % 2]
        folder.mkdir(exist_ok=True)
        Image.new("RGB", size).save(folder / f"{k}.png")
    data = load(tmp_path, test_share=0.5)
    assert data.train.size == data.test.size == wanted
    assert images(data.train).shape[1:] == (3, wanted, wanted)
    assert load(tmp_path, size=40, test_share=0.5).train.size == 40


def test_the_middle_square_is_used(tmp_path):
    write_pictures(tmp_path, 3)
    for k, (size, box) in enumerate((((48, 16), (16, 0)), ((16, 48), (0, 16)))):
        wide = Image.new("RGB", size, "red")
        wide.paste((0, 255, 0), (*box, box[0] + 16, box[1] + 16))
        wide.save(tmp_path / "cat" / f"wide{k}.png")
    data = load(tmp_path, size=16, test_share=0.05)
    green = (images(data.train) == np.array([0, 255, 0]).reshape(3, 1, 1)).all((1, 2, 3))
    green_test = (images(data.test) == np.array([0, 255, 0]).reshape(3, 1, 1)).all((1, 2, 3))
    assert green.sum() + green_test.sum() == 2


def modes() -> dict[str, tuple[Image.Image, tuple[int, int, int]]]:
    """Pictures in one colour, by mode, and the RGB that a viewer would show."""
    grey16 = Image.fromarray(np.full((16, 16), 0x8080, np.uint16))
    palette = Image.new("RGB", (16, 16), (10, 200, 30)).quantize(4)
    return {
        "L": (Image.new("L", (16, 16), 77), (77, 77, 77)),
        "1": (Image.new("1", (16, 16), 1), (255, 255, 255)),
        "LA": (Image.new("LA", (16, 16), (50, 255)), (50, 50, 50)),
        "P": (palette, (10, 200, 30)),
        "RGBA": (Image.new("RGBA", (16, 16), (1, 2, 3, 255)), (1, 2, 3)),
        "RGBA, clear": (Image.new("RGBA", (16, 16), (1, 2, 3, 0)), (255, 255, 255)),
        "RGBA, half": (Image.new("RGBA", (16, 16), (0, 0, 0, 127)), (128, 128, 128)),
        "I;16": (grey16, (128, 128, 128)),
    }


@pytest.mark.parametrize("mode", modes())
def test_pictures_of_other_modes_look_as_in_a_viewer(tmp_path, mode):
    picture, colour = modes()[mode]
    for name in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / name).mkdir(parents=True)
        picture.save(tmp_path / name / "1.png")
    pixels = images(load(tmp_path).train)
    assert np.abs(pixels.astype(int) - np.reshape(colour, (3, 1, 1))).max() <= 1


def test_cmyk_floats_and_wide_greys_are_converted(tmp_path):
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    (tmp_path / "a").mkdir()
    cmyk.save(tmp_path / "a" / "1.jpg", quality=100)
    decoded = _images.decode(tmp_path / "a" / "1.jpg", 16)
    assert decoded[0].min() > 250
    assert decoded[1:].max() < 6
    wide = Image.fromarray(np.full((4, 4), 0xFFFF, np.int32))
    assert rgb(wide).getpixel((0, 0)) == (255, 255, 255)
    for value, wanted in ((0.5, 128), (200.0, 200)):
        assert rgb(Image.fromarray(np.full((4, 4), value, np.float32))).getpixel((0, 0)) == (wanted,) * 3


def test_photographs_taken_sideways_are_turned_upright(tmp_path):
    picture = Image.new("RGB", (32, 32))
    picture.paste((255, 0, 0), (0, 0, 32, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    picture.save(tmp_path / "1.png", exif=exif)
    red = _images.decode(tmp_path / "1.png", 32)[0] > 128
    assert red[:, 16:].all()
    assert not red[:, :16].any()


def test_large_photographs_are_decoded_close_to_their_full_resolution(tmp_path):
    y, x = np.mgrid[:512, :512]
    smooth = np.stack([x / 2, y / 2, (x + y) / 4], 2).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "1.jpg", quality=95)
    wanted = np.asarray(Image.fromarray(smooth).resize((64, 64), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    assert np.abs(_images.decode(tmp_path / "1.jpg", 64).astype(int) - wanted).max() < 8


@pytest.mark.parametrize("memory_mb", [64, 1])
def test_a_few_damaged_pictures_are_skipped_and_named(tmp_path, memory_mb):
    for name in ("train", "test"):
        write_pictures(tmp_path / name, 110, size=(32, 32))
    (tmp_path / "train" / "cat" / "7.png").write_bytes(b"not a picture")
    (tmp_path / "test" / "dog" / "3.png").write_bytes(b"")
    data = load(tmp_path, memory_mb)
    assert (len(data.train), len(data.test)) == (219, 219)
    assert np.bincount(data.train.labels).tolist() == [109, 110]
    assert "2 of 440" in data.notes[0]
    assert str(Path("train/cat/7.png")) in data.notes[0]
    assert str(Path("test/dog/3.png")) in data.notes[0]
    clean = load(tmp_path)
    np.testing.assert_array_equal(images(data.train), images(clean.train))


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-400])


def test_a_picture_damaged_inside_is_found_when_it_is_decoded(tmp_path):
    written = write_pictures(tmp_path / "train", 60, size=(32, 32))
    write_pictures(tmp_path / "test", 3, size=(32, 32))
    cut_short(tmp_path / "train" / "cat" / "0.png")
    data = load(tmp_path)
    assert "1 of 126" in data.notes[0]
    kept = [name for name in sorted(written) if name != "cat/0.png"]
    np.testing.assert_array_equal(images(data.train), [written[name].transpose(2, 0, 1) for name in kept])


def test_a_picture_damaged_inside_is_named_when_it_is_streamed(tmp_path):
    write_pictures(tmp_path, 30, size=(96, 96))
    cut_short(tmp_path / "dog" / "5.png")
    data = load(tmp_path, 1)
    with pytest.raises(DataError, match=r"dog.5\.png cannot be read"):
        [images(part) for part in (data.train, data.test)]


def test_too_many_damaged_pictures_are_an_error_with_their_names(tmp_path):
    write_pictures(tmp_path, 50)
    for k in range(12):
        (tmp_path / "cat" / f"{k}.png").write_bytes(b"broken")
    text = refusal(tmp_path)
    assert "12 of 100" in text
    assert str(Path("cat/0.png")) in text
    assert text.count("cat") < 12
    assert "..." in text
    for k in range(1, 12):
        shutil.copy(tmp_path / "cat" / "20.png", tmp_path / "cat" / f"{k}.png")
    assert "1 of 100" in load(tmp_path).notes[0]  # exactly one in a hundred is still skipped


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache in which everything is worth keeping."""
    monkeypatch.setenv("KD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(image_folder, "WORTH_KEEPING_S", -1)
    return tmp_path / "cache"


def test_pictures_are_decoded_once_and_again_when_a_file_changes(tmp_path, cache, monkeypatch):
    write_pictures(tmp_path / "pets", 6)
    first = load(tmp_path / "pets")
    decoded = []

    def counting(file: Path, size: int) -> np.ndarray:
        decoded.append(file.name)
        return _images.decode(file, size)

    monkeypatch.setattr(image_folder, "decode", counting)
    again = load(tmp_path / "pets")
    assert decoded == []
    assert again.train.fingerprint() == first.train.fingerprint()
    load(tmp_path / "pets", size=8)
    assert len(decoded) == 12
    Image.new("RGB", (16, 16)).save(tmp_path / "pets" / "cat" / "0.png")
    changed = load(tmp_path / "pets")
    assert len(decoded) == 24
    assert changed.train.fingerprint() + changed.test.fingerprint() != (
        first.train.fingerprint() + first.test.fingerprint()
    )


def test_what_is_kept_is_bounded_and_never_trusted_when_damaged(tmp_path, cache):
    write_pictures(tmp_path / "pets", 6)
    wanted = load(tmp_path / "pets").train.fingerprint()
    kept = next((cache / "pictures").iterdir())
    kept.write_bytes(kept.read_bytes()[:-50])
    assert load(tmp_path / "pets").train.fingerprint() == wanted
    for size in range(8, 16):
        load(tmp_path / "pets", size=size)
    assert len(list((cache / "pictures").iterdir())) == _kept.MOST


def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path, cache):
    cache.write_text("a file where the folder should be")
    write_pictures(tmp_path / "pets", 6)
    assert len(load(tmp_path / "pets").train) == 9


def test_files_that_are_no_pictures_do_not_count(tmp_path):
    write_pictures(tmp_path, 5)
    (tmp_path / "cat" / "notes.txt").write_text("hello")
    (tmp_path / "cat" / ".hidden.png").write_bytes(b"")
    (tmp_path / ".git").mkdir()
    (tmp_path / "__MACOSX" / "cat").mkdir(parents=True)
    (tmp_path / "cat" / "more").mkdir()
    shutil.copy(tmp_path / "cat" / "0.png", tmp_path / "cat" / "more" / "UPPER.PNG")
    data = load(tmp_path)
    assert data.classes == ("cat", "dog")
    assert len(data.train) + len(data.test) == 11


def test_a_missing_folder_a_file_and_an_empty_folder_are_told_apart(tmp_path):
    assert "there is no folder" in refusal(tmp_path / "gone")
    (tmp_path / "data.tar").write_bytes(b"")
    assert "is a file" in refusal(tmp_path / "data.tar")
    (tmp_path / "empty").mkdir()
    assert "no pictures in class folders" in refusal(tmp_path / "empty")
    Image.new("RGB", (8, 8)).save(tmp_path / "empty" / "loose.png")
    assert "CLASS" in refusal(tmp_path / "empty")


def test_one_class_and_empty_classes_are_refused(tmp_path):
    write_pictures(tmp_path, 4, ("cat",))
    assert "one class only, cat" in refusal(tmp_path)
    (tmp_path / "dog").mkdir()
    (tmp_path / "emu").mkdir()
    assert "no pictures in dog, emu" in refusal(tmp_path)


def test_parts_with_different_classes_are_refused(tmp_path):
    write_pictures(tmp_path / "train", 2, ("cat", "dog"))
    write_pictures(tmp_path / "test", 2, ("cat", "emu"))
    text = refusal(tmp_path)
    assert "only in train: dog" in text
    assert "only in test: emu" in text


def test_a_test_folder_without_a_training_folder_is_refused(tmp_path):
    write_pictures(tmp_path / "test")
    assert "no train" in refusal(tmp_path)


def test_one_picture_of_each_class_cannot_be_split(tmp_path):
    write_pictures(tmp_path, 1)
    assert "cannot be split" in refusal(tmp_path)


def test_a_class_whose_pictures_are_all_damaged_is_named(tmp_path):
    write_pictures(tmp_path, 150, ("cat", "dog"), (8, 8))
    (tmp_path / "emu").mkdir()
    (tmp_path / "emu" / "1.png").write_bytes(b"broken")
    assert "no pictures of emu" in refusal(tmp_path)


def test_a_home_folder_may_be_written_as_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write_pictures(tmp_path / "pets")
    assert load(Path("~/pets")).classes == ("cat", "dog")
