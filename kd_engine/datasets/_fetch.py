"""Get a dataset's files: found, else downloaded with progress, else an error that says which to put where.

torchvision's downloader is not used: it draws its own bar on stderr and tells nobody else how far it is.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kd_engine.datasets import Progress
from kd_engine.errors import DataError

TIMEOUT_S = 20


@dataclass(frozen=True)
class Remote:
    """One file of a dataset: its name, where it can be had (in order of preference), and its md5 for a
    damaged download."""

    name: str
    urls: tuple[str, ...]
    md5: str


def fetch(dataset: str, files: Sequence[Remote], folder: Path, progress: Progress) -> None:
    """Download those of `files` that are not in `folder`. DataError: which files are missing, and where to
    put them."""
    wanted = [file for file in files if not (folder / file.name).is_file()]
    if not wanted:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in wanted:
            _one(file, folder, progress)
    except (OSError, http.client.HTTPException) as error:  # no network, a refusing server, a full disk
        names = ", ".join(file.name for file in wanted)
        raise DataError(
            f"dataset '{dataset}' is not on this machine and could not be downloaded ({error}).",
            f"Put {names} into {folder}; they come from {wanted[0].urls[0].rpartition('/')[0]}/.",
        ) from error


def _one(file: Remote, folder: Path, progress: Progress) -> None:
    for url in file.urls[:-1]:
        try:
            return _download(url, file, folder, progress)
        except (
            OSError,
            http.client.HTTPException,
        ):  # the next mirror may have it; the last one's error is told
            continue
    return _download(file.urls[-1], file, folder, progress)


def _download(url: str, file: Remote, folder: Path, progress: Progress) -> None:
    part = folder / f".{file.name}.{os.getpid()}.part"
    digest, done = hashlib.md5(usedforsecurity=False), 0
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer, part.open("wb") as target:
            total = int(answer.headers.get("Content-Length") or 0)
            while block := answer.read(1 << 16):
                target.write(block)
                digest.update(block)
                done += len(block)
                progress(f"downloading {file.name}", done / total if total else None)
        if digest.hexdigest() != file.md5:
            raise OSError(f"{url} sent {done} bytes that are not the file expected")
        part.replace(folder / file.name)
    finally:
        part.unlink(missing_ok=True)
