"""Euclidean distances (not squared) with a gradient that is 0 where the distance is 0, instead of infinite."""

import torch
from torch import Tensor


def paired(a: Tensor, b: Tensor) -> Tensor:
    """||a - b|| over the last dimension."""
    return safe_root((a - b).square().sum(-1))


def all_pairs(x: Tensor) -> Tensor:
    """(B, D) -> (B, B), from differences: equal rows are at exactly 0, which ``|a|² + |b|² - 2ab`` does not give."""
    return paired(x[:, None], x[None])


@torch.no_grad()
def squared_for_mining(x: Tensor) -> Tensor:
    """(B, D) -> (B, B) squared distances without gradient, by one matrix product in float64.

    Centred first, so that little cancels. Good for saying which of two is nearer; the distances of the pairs that are
    chosen are computed again by ``paired``. Memory: two matrices of B * B * 8 bytes, 256 MiB at B = 4096.
    """
    x = x.double()
    x = x - x.mean(0)
    squares = x.square().sum(1)
    return torch.addmm(squares[:, None] + squares, x, x.T, alpha=-2).clamp_(min=0)


def safe_root(squares: Tensor) -> Tensor:
    """The root, with slope 0 at 0."""
    zero = squares == 0
    return (squares + zero).sqrt().masked_fill(zero, 0)
