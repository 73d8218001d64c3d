"""Write small datasets in the real file formats, for the tests that read them."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def idx(array: np.ndarray) -> bytes:
    """The idx format, from its description: magic, sizes, bytes; all big-endian."""
    return struct.pack(f">{1 + array.ndim}I", 0x800 | array.ndim, *array.shape) + array.tobytes()


def write_mnist(folder: Path, packed: bool = True, train: int = 40, test: int = 20) -> dict[str, np.ndarray]:
    """The four files of MNIST; what is in them, by part."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for part, name, n in (("train", "train", train), ("test", "t10k", test)):
        images = rng(n).integers(0, 256, (n, 28, 28), dtype=np.uint8)
        labels = (np.arange(n) % 10).astype(np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            data, file = idx(array), folder / f"{name}-{kind}-ubyte"
            if packed:
                file.with_name(file.name + ".gz").write_bytes(gzip.compress(data))
            else:
                file.write_bytes(data)
        written |= {f"{part}_images": images, f"{part}_labels": labels}
    return written


def cifar_files(classes: int = 10) -> tuple[dict[str, bytes], dict[str, np.ndarray]]:
    """The files of CIFAR-10 or CIFAR-100 in the binary version, and the pixels in them by file name."""
    if classes == 10:
        names, meta, extra, labels = (
            [f"data_batch_{k}.bin" for k in range(1, 6)],
            "batches.meta.txt",
            0,
            CIFAR10,
        )
        names.append("test_batch.bin")
    else:
        names, meta, extra = ["train.bin", "test.bin"], "fine_label_names.txt", 1
        labels = [f"thing_{k}" for k in range(100)]
    files, pixels = {meta: ("\n".join(labels) + "\n\n").encode()}, {}
    for seed, name in enumerate(names):
        n = 20 if classes == 10 else 200
        pixels[name] = rng(seed).integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)
        answers = np.arange(n) % classes
        columns = [np.full(n, 7), answers] if extra else [answers]
        records = np.concatenate([*(c[:, None] for c in columns), pixels[name].reshape(n, -1)], 1)
        files[name] = records.astype(np.uint8).tobytes()
    return files, pixels


def write_archive(path: Path, folder: str, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def write_pictures(
    folder: Path,
    per_class: int = 4,
    classes: tuple[str, ...] = ("cat", "dog"),
    size: tuple[int, int] = (16, 16),
) -> dict[str, np.ndarray]:
    """PNG files `folder/CLASS/K.png`; the pixels (H, W, 3) by "CLASS/K.png"."""
    written = {}
    for k, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for j in range(per_class):
            pixels = rng(100 * k + j).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{j}.png")
            written[f"{name}/{j}.png"] = pixels
    return written
