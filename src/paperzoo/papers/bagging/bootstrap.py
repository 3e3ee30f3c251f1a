"""Bootstrap samples as counts, and the out-of-bag estimate.

Breiman: Bagging Predictors, Machine Learning 24 (1996), Sec. 2; Breiman: Out-of-bag estimation, 1996. A sample that
was drawn c times counts c times in a member's loss, as c copies of it would. M members, N samples.
"""

import torch
from torch import Tensor

from paperzoo.data.samplers import bootstrap_sample


def counts_of(indices: Tensor, size: int) -> Tensor:
    """How often each sample was drawn.

    Args:
        indices: (M, D) int64, the samples of each member.
        size: N.

    Returns:
        (M, N) int64; each row sums to D.

    Raises:
        ValueError: an index is outside the samples.
    """
    if indices.dim() != 2:
        raise ValueError(f"indices of shape {tuple(indices.shape)}: must be (M, D)")
    if indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < size:
        raise ValueError(f"indices from {int(indices.min())} to {int(indices.max())}: must be 0 to {size - 1}")
    return torch.zeros(len(indices), size, dtype=torch.int64).scatter_add_(1, indices, torch.ones_like(indices))


def bootstrap_counts(size: int, members: int, seed: int, first: int = 0) -> Tensor:
    """The counts (M, N) of the bootstrap samples ``first``, ``first + 1``, ... of a seed: multinomial, N draws each.

    They are those of ``sampler=bootstrap`` with ``sampler.draw`` of the same number and the same seed.
    """
    if size < 1 or members < 1:
        raise ValueError(f"size={size}, members={members}: must be at least 1")
    drawn = [bootstrap_sample(size, seed, first + number) for number in range(members)]
    return counts_of(torch.stack(drawn), size)


def out_of_bag(probabilities: Tensor, counts: Tensor) -> Tensor:
    """The mean probabilities of the members that have not seen a sample.

    Args:
        probabilities: (M, N, K) of each member, or its votes.
        counts: (M, N) how often each was trained on each sample.

    Returns:
        (N, K), rows of a sample that every member has seen are NaN.
    """
    if probabilities.shape[:2] != counts.shape:
        raise ValueError(
            f"probabilities {tuple(probabilities.shape)}, counts {tuple(counts.shape)}: must be (M, N, K) and (M, N)"
        )
    left_out = (counts == 0).to(probabilities)
    return (probabilities * left_out[..., None]).sum(0) / left_out.sum(0)[:, None]


def missing_classes(counts: Tensor, labels: Tensor, num_classes: int) -> dict[int, list[int]]:
    """The classes of which a member's bootstrap sample has no sample, though the training set has some.

    Args:
        counts: (M, N).
        labels: (N,), 0 to K - 1.
        num_classes: K.

    Returns:
        Classes by the place of the member; members that miss none are left out.
    """
    of = torch.nn.functional.one_hot(labels, num_classes)  # (N, K)
    seen = (counts > 0).to(torch.float32) @ of.to(torch.float32)  # (M, K) samples that differ
    absent = (seen == 0) & (of.sum(0) > 0)
    return {n: torch.nonzero(row).flatten().tolist() for n, row in enumerate(absent) if bool(row.any())}
