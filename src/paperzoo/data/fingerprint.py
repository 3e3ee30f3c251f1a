"""A fingerprint of what a run sees: content, labels, classes and split; not where it lies."""

import hashlib
from collections.abc import Iterable
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
