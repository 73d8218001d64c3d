"""CIFAR's binary archives, read with numpy.

The python archives, which torchvision reads, are pickles: opening one runs whatever is in it. The binary
ones hold the same pixels as plain bytes, so nothing has to be trusted.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np

from kd_engine.datasets import Dataset, Loaded, Progress, Resident, Triple, room
from kd_engine.datasets._fetch import Remote, fetch
from kd_engine.errors import DataError

SIZE = 32
PIXELS = 3 * SIZE * SIZE


class CifarDataset(Dataset):
    """Base of CIFAR-10 and CIFAR-100."""

    offline = False
    source = "Krizhevsky: Learning multiple layers of features from tiny images, 2009"
    folder: ClassVar[str]  # below the root
    archive: ClassVar[str]
    unpacked: ClassVar[str]  # the archive's own folder
    md5: ClassVar[str]
    train_files: ClassVar[tuple[str, ...]]
    test_files: ClassVar[tuple[str, ...]]
    names_file: ClassVar[str]
    label_bytes: ClassVar[int]  # of one record; the last is the label
    mean: ClassVar[Triple]
    std: ClassVar[Triple]

    @classmethod
    def load(cls, knobs: Any, root: Path, progress: Progress, memory_mb: int) -> Loaded:
        where, contents = cls._contents(root, progress)
        classes = tuple(contents[cls.names_file].decode("ascii", "replace").split())
        sets = [
            [cls._records(where, name, contents) for name in names]
            for names in (cls.train_files, cls.test_files)
        ]
        counts = [sum(map(len, records)) for records in sets]
        parts = np.split(room((sum(counts), 3, SIZE, SIZE), memory_mb), [counts[0]])
        made = []
        for part, records in zip(parts, sets, strict=True):
            flat = np.concatenate([record[:, cls.label_bytes :] for record in records])
            part[...] = flat.reshape(-1, 3, SIZE, SIZE)
            labels = np.concatenate([record[:, cls.label_bytes - 1] for record in records])
            if len(labels) == 0 or labels.max() >= len(classes):
                raise DataError(
                    f"{where}: a label is not one of the {len(classes)} classes of {cls.names_file}."
                )
            made.append(Resident(part, labels))
        train, test = made
        return Loaded(train, test, classes, cls.mean, cls.std)

    @classmethod
    def _records(cls, where: Path, name: str, contents: Mapping[str, bytes]) -> np.ndarray:
        """(n, label bytes + pixels) uint8; channels first, rows from the top."""
        length = cls.label_bytes + PIXELS
        if len(contents[name]) % length:
            raise DataError(f"{where}: {name} is cut short or not CIFAR's binary format.")
        return np.frombuffer(contents[name], np.uint8).reshape(-1, length)

    @classmethod
    def _contents(cls, root: Path, progress: Progress) -> tuple[Path, dict[str, bytes]]:
        """The wanted files by name: from the unpacked folder, the archive, or the network."""
        wanted = (*cls.train_files, *cls.test_files, cls.names_file)
        for folder in (root / cls.folder / cls.unpacked, root / cls.unpacked):
            if all((folder / name).is_file() for name in wanted):
                progress(f"reading {cls.name}", None)
                return folder, {name: (folder / name).read_bytes() for name in wanted}
        here = root / cls.folder
        archive = root / cls.archive if (root / cls.archive).is_file() else here / cls.archive
        if not archive.is_file():
            url = f"https://www.cs.toronto.edu/~kriz/{cls.archive}"
            fetch(cls.name, [Remote(cls.archive, (url,), cls.md5)], here, progress)
        progress(f"unpacking {cls.archive}", None)
        found = _unpack(archive, wanted)
        if missing := [name for name in wanted if name not in found]:
            raise DataError(
                f"{archive} lacks {', '.join(missing)}.", "Delete it to have it downloaded again."
            )
        return archive, found


def _unpack(archive: Path, wanted: tuple[str, ...]) -> dict[str, bytes]:
    """Read into memory; nothing that the archive says about paths is followed."""
    found = {}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = PurePosixPath(member.name).name
                if member.isfile() and name in wanted:
                    stream = tar.extractfile(member)
                    found[name] = stream.read() if stream else b""
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise DataError(
            f"{archive} cannot be read: {error}.", "Delete it to have it downloaded again."
        ) from error
    return found
