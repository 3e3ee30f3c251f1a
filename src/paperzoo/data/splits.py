"""Stratified splits by a seed of their own: part of the data, not of a run's randomness."""

from collections.abc import Sequence

import numpy as np

from paperzoo.errors import UserError


def hold_out(
    labels: np.ndarray, amount: float, seed: int, classes: Sequence[str], what: str
) -> tuple[np.ndarray, np.ndarray]:
    """Indices kept and indices held out, both sorted, with each class's share preserved.

    Args:
        labels: (N,) class indices.
        amount: a number of images, or a fraction below 1.
        what: ``data.validation`` or ``data.test``, for messages.

    Raises:
        UserError: there are too few images to hold so many out and keep one of each class.
    """
    count = round(amount * len(labels)) if amount < 1 else int(amount)
    present = np.unique(labels)
    if not 0 < count < len(labels):
        raise UserError(f"{what}={amount:g}: of {len(labels)} images, between 1 and {len(labels) - 1} can be held out")
    held = np.zeros(len(labels), dtype=bool)
    generator = np.random.default_rng(seed)
    for label, share in zip(present, shares([int((labels == label).sum()) for label in present], count), strict=True):
        members = np.flatnonzero(labels == label)
        if share >= len(members):
            name = classes[int(label)]
            raise UserError(
                f"{what}={amount:g}: class {name} has {len(members)} image(s), none would be left to train on"
            )
        held[generator.permutation(members)[:share]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def subset(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Sorted indices of a stratified subset of ``count`` images; all of them where there are no more."""
    if count >= len(labels):
        return np.arange(len(labels))
    present = np.unique(labels)
    generator = np.random.default_rng(seed)
    parts = shares([int((labels == label).sum()) for label in present], count)
    chosen = [
        generator.permutation(np.flatnonzero(labels == label))[:part]
        for label, part in zip(present, parts, strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def shares(sizes: Sequence[int], count: int) -> list[int]:
    """Parts of ``count`` in proportion to ``sizes``: largest remainders get the rest."""
    total = sum(sizes)
    exact = [size * count / total for size in sizes]
    parts = [int(value) for value in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda k: (parts[k] - exact[k], k))
    for k in by_remainder[: count - sum(parts)]:
        parts[k] += 1
    return parts
