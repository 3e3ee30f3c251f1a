"""A long-tailed subset of any labelled data, as a sampler: classes become rarer exponentially.

The subset that is customary for classification under imbalance (Cui, Jia, Lin, Song, Belongie: Class-Balanced Loss
Based on Effective Number of Samples, CVPR 2019): class k of K keeps ``n * ratio ** (k / (K - 1))`` samples.
"""

import torch
from torch import Tensor

from paperzoo.errors import UserError
from paperzoo.randomness import generator


def long_tailed(
    size: int, labels: Tensor | None, seed: int, epoch: int, batch_size: int, ranks: int, ratio: float = 0.01
) -> Tensor:
    """The subset's samples once, in a new random order each epoch; the subset is the same in every epoch.

    Args:
        size, labels, seed, epoch, batch_size, ranks: as every sampler's (``data/samplers.py``).
        ratio: samples of the last class over those of the first; 1 keeps all.

    Raises:
        UserError: the data has no class for each sample, or fewer are kept than a global batch has.
    """
    if labels is None or not len(labels):
        raise UserError("sampler=long_tailed: this data has no class for each training sample; use sampler=shuffled")
    kept = subset(labels, ratio, seed)
    if len(kept) < batch_size * ranks:
        raise UserError(
            f"sampler.ratio={ratio:g}: keeps {len(kept)} of {size} samples, a batch of {batch_size} on {ranks} rank(s) "
            "needs more; raise it or lower data.batch_size"
        )
    return kept[torch.randperm(len(kept), generator=generator(seed, "order", epoch))]


def subset(labels: Tensor, ratio: float, seed: int) -> Tensor:
    """Indices, sorted, of a long-tailed subset of labels (N,).

    Classes in the order of their numbers keep ``n * ratio ** (k / (K - 1))`` samples, rounded down, at least one and
    at most what they have; n is the size of the largest class.

    Raises:
        UserError: the ratio is not in (0, 1].
    """
    if not 0 < ratio <= 1:
        raise UserError(f"sampler.ratio={ratio:g}: must be above 0 and at most 1")
    classes, counts = labels.unique(return_counts=True)
    exponents = torch.arange(len(classes), dtype=torch.float64) / max(len(classes) - 1, 1)
    wanted = (int(counts.max()) * ratio**exponents + 1e-9).floor().clamp(min=1).long()  # 1e-9: a power is rounded
    chance = generator(seed, "long_tailed")
    kept = []
    for label, count in zip(classes, wanted.tolist(), strict=True):
        members = torch.nonzero(labels == label).flatten()
        kept.append(members[torch.randperm(len(members), generator=chance)[:count]])
    return torch.cat(kept).sort().values
