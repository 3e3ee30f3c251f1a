"""A fingerprint of what a run sees: content, labels, classes and split; not where it lies."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np


def fingerprint(parts: Iterable[Any]) -> str:
    """SHA-256 (64 hex digits) of arrays and texts, each with its type and shape."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype} {part.shape}\0".encode())
            digest.update(np.ascontiguousarray(part).data)
        else:
            digest.update(f"{part}\0".encode())
    return digest.hexdigest()


WHOLE = 2**31  # bytes: content up to so much is hashed whole
ENDS, FILE_ENDS = 2**10, 2**20  # bytes at the beginning and at the end of an image, of a file, above that
Stored = bytes | memoryview | Path | np.ndarray


def digest_of_images(images: Iterable[Stored], *, whole: bool) -> str:
    """SHA-256 of stored images in their order: of all their bytes, or of each one's length and ends."""
    digest = hashlib.sha256()
    for raw in images:
        size, content = _content(raw, whole)
        digest.update(f"{size}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def digest_of_file(path: Path, *, whole: bool) -> str:
    """SHA-256 of a file, or of its length and ends."""
    size = path.stat().st_size
    if whole or size <= 2 * FILE_ENDS:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return fingerprint([size, _ends(path, FILE_ENDS).hex()])


def _ends(path: Path, count: int) -> bytes:
    """The first and the last ``count`` bytes of a file that is longer than both."""
    with path.open("rb") as file:
        head = file.read(count)
        file.seek(-count, 2)
        return head + file.read()


def _content(raw: Stored, whole: bool) -> tuple[int, bytes | memoryview]:
    """The length of a stored image, and the bytes that stand for it."""
    if isinstance(raw, np.ndarray):
        raw = raw.tobytes()
    if isinstance(raw, Path):
        if not raw.is_file():
            return 0, b""
        if not whole and (size := raw.stat().st_size) > 2 * ENDS:
            return size, _ends(raw, ENDS)
        raw = raw.read_bytes()
    return len(raw), raw if whole or len(raw) <= 2 * ENDS else bytes(raw[:ENDS]) + bytes(raw[-ENDS:])
