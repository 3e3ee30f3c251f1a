"""Which samples an epoch of training visits, in which order: functions of the seed and the epoch alone.

Each is called as ``(size, labels, seed, epoch, batch_size, ranks, **options) -> int64 (M,)`` and gives the order over
all ranks: the global batch b is the slice ``[bG, (b + 1)G)`` with G = batch_size * ranks, and each rank takes its own
part of that. ``conf/sampler/*.yaml`` names one; a sampler of one's own is any function like these.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from paperzoo.errors import UserError
from paperzoo.randomness import generator


def shuffled(size: int, labels: Tensor | None, seed: int, epoch: int, batch_size: int, ranks: int) -> Tensor:
    """Every sample once, in a new random order each epoch."""
    return torch.randperm(size, generator=generator(seed, "order", epoch))


def sequential(size: int, labels: Tensor | None, seed: int, epoch: int, batch_size: int, ranks: int) -> Tensor:
    """Every sample once, as stored."""
    return torch.arange(size)


def bootstrap(
    size: int, labels: Tensor | None, seed: int, epoch: int, batch_size: int, ranks: int, draw: int = 0
) -> Tensor:
    """N samples drawn with replacement once for the run (Breiman, 1996), in a new random order each epoch.

    ``draw`` numbers the bootstrap sample: members of an ensemble take 0, 1, 2, ...
    """
    drawn = bootstrap_sample(size, seed, draw)
    return drawn[shuffled(size, labels, seed, epoch, batch_size, ranks)]


def bootstrap_sample(size: int, seed: int, draw: int) -> Tensor:
    """(N,) indices drawn with replacement, sorted."""
    return torch.randint(size, (size,), generator=generator(seed, "bootstrap", draw)).sort().values


def weighted(
    size: int,
    labels: Tensor | None,
    seed: int,
    epoch: int,
    batch_size: int,
    ranks: int,
    class_weights: list[float] | None = None,
    file: str | None = None,
) -> Tensor:
    """N samples drawn with replacement, each as likely as its weight says.

    Args:
        class_weights: a weight for each class.
        file: an ``.npy`` of (N,), a weight for each training sample.

    Raises:
        UserError: neither or both are given, or their number is wrong, or they are no weights.
    """
    if (class_weights is None) == (file is None):
        raise UserError("sampler=weighted: give sampler.class_weights or sampler.file, one of the two")
    if class_weights is not None:
        weights = torch.tensor(class_weights, dtype=torch.float64)
        classes = _labels("weighted", labels)
        if len(weights) <= int(classes.max()):
            raise UserError(
                f"sampler.class_weights: has {len(weights)} weights, the classes are {int(classes.max()) + 1}"
            )
        weights = weights[classes]
    else:
        weights = _from_file(str(file), size)
    if not bool((weights >= 0).all()) or not float(weights.sum()) > 0:
        raise UserError("sampler=weighted: weights must be at least 0, and one of them above")
    return torch.multinomial(weights, size, replacement=True, generator=generator(seed, "order", epoch))


def class_balanced(size: int, labels: Tensor | None, seed: int, epoch: int, batch_size: int, ranks: int) -> Tensor:
    """N samples drawn with replacement, every class that occurs as likely as any other."""
    classes = _labels("class_balanced", labels)
    counts = torch.bincount(classes).double()
    weights = (1 / counts)[classes]
    return torch.multinomial(weights, size, replacement=True, generator=generator(seed, "order", epoch))


def pk(size: int, labels: Tensor | None, seed: int, epoch: int, batch_size: int, ranks: int, k: int = 4) -> Tensor:
    """Batches of P identities with K samples each (Hermans et al., 2017, Sec. 2); P is ``batch_size`` / K on a rank.

    An epoch visits every identity with at least one sample once, in random order; one with fewer than K samples
    repeats some. What does not fill a global batch is left out.

    Raises:
        UserError: K does not divide the batch, P is 1 (no sample of a batch has a negative then, and nothing is
            learned), or there are fewer identities than a global batch needs.
    """
    if batch_size % k:
        raise UserError(
            f"data.batch_size={batch_size}: sampler=pk makes batches of P x K, sampler.k={k} must divide it"
        )
    if batch_size == k:
        raise UserError(
            f"data.batch_size={batch_size}: sampler.k={k} puts one identity into a batch, of which no triplet can be "
            f"formed; at least {2 * k}, or a lower sampler.k"
        )
    classes = _labels("pk", labels)
    chance = generator(seed, "order", epoch)
    identities = torch.unique(classes)
    per_batch = batch_size // k * ranks
    if len(identities) < per_batch:
        raise UserError(
            f"sampler=pk: a batch of {batch_size} on {ranks} rank(s) needs {per_batch} identities, there are "
            f"{len(identities)}; lower data.batch_size or raise sampler.k"
        )
    repeats = max(1, size // (len(identities) * k))  # so that an epoch has about as many samples as there are
    order = identities[:0]
    for _ in range(repeats):
        drawn = identities[torch.randperm(len(identities), generator=chance)]
        begun = order[len(order) // per_batch * per_batch :]  # of a batch that this round fills: none comes there twice
        there = torch.isin(drawn, begun)
        order = torch.cat([order, drawn[~there], drawn[there]])
    whole = len(order) // per_batch * per_batch
    members = {int(identity): torch.nonzero(classes == identity).flatten() for identity in identities}
    return torch.cat([_draw(members[int(identity)], k, chance) for identity in order[:whole]])


def _draw(members: Tensor, k: int, chance: torch.Generator) -> Tensor:
    """K of an identity's samples: different ones where there are so many, else each at least once."""
    orders = [torch.randperm(len(members), generator=chance) for _ in range(-(-k // len(members)))]
    return members[torch.cat(orders)[:k]]


def _labels(name: str, labels: Tensor | None) -> Tensor:
    if labels is None or not len(labels):
        raise UserError(f"sampler={name}: this data has no class for each training sample; use sampler=shuffled")
    return labels


def _from_file(file: str, size: int) -> Tensor:
    try:
        weights = torch.from_numpy(np.load(Path(file).expanduser(), allow_pickle=False)).double()
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"sampler.file={file}: cannot be read as .npy ({error})") from None
    if weights.shape != (size,):
        raise UserError(f"sampler.file={file}: is of shape {tuple(weights.shape)}, the training samples are {size}")
    return weights
