"""The random states of a process: seeded per rank, saved and restored exactly.

The order of the data and the augmentation of an image are functions of (seed, epoch, index) and need no state;
what is left are the global generators, which dropout, mixing and stochastic depth draw from.
"""

import random
from typing import Any

import numpy as np
import torch

from paperzoo.randomness import seed_of


def seed_everything(*words: int | str) -> None:
    """Seed python, numpy and torch (every device) from ``words``: other words, other numbers."""
    value = seed_of(*words)
    random.seed(value)
    np.random.seed(value % 2**32)  # noqa: NPY002  the global generator is what libraries draw from
    torch.manual_seed(value)


def state() -> dict[str, Any]:
    """All global generators of this process as plain data and tensors."""
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "python": [version, list(words), gauss],
        "numpy": [
            str(kind),
            torch.from_numpy(np.asarray(keys, dtype=np.int64)),
            int(position),
            int(has_gauss),
            float(cached),
        ],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,  # of this rank's device
    }


def restore(saved: dict[str, Any]) -> None:
    """Set all global generators to a saved ``state``."""
    version, words, gauss = saved["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, position, has_gauss, cached = saved["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(saved["torch"])
    if saved["cuda"] is not None and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(saved["cuda"])
