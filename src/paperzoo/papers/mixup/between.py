"""What a network does between its training samples: the paper's second experiment (Sec. 2, Fig. 2).

At ``x = λ x_a + (1 - λ) x_b``, of two samples of different classes, two things are measured over λ: how often the
prediction is neither of the two classes (a miss), and how steep the network is. The paper plots "the norm of the
gradients of the model with respect to the input"; here that is the Frobenius norm of the Jacobian of the logits, which
is 0 where the output does not change and does not depend on which class is predicted.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

LAMBDAS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


class Between(NamedTuple):
    """Means over pairs, one for each λ."""

    gradient_norm: Tensor  # (L,)
    misses: Tensor  # (L,), shares


def pairs(labels: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Indices (P,) and (P,) of samples of different classes, drawn at random; at most ``count``, fewer of few samples.

    Args:
        labels: (N,).
        count: of pairs.
        generator: what is drawn from.
    """
    first = torch.randperm(len(labels), generator=generator)
    second = first.roll(1)
    kept = (labels[first] != labels[second]).nonzero().flatten()[:count]
    return first[kept], second[kept]


def between_samples(
    network: Callable[[Tensor], Tensor],
    a: Tensor,
    b: Tensor,
    labels_a: Tensor,
    labels_b: Tensor,
    lambdas: Sequence[float] = LAMBDAS,
) -> Between:
    """Gradient norm and misses between pairs of samples.

    Args:
        network: images (P, ...) -> logits (P, K), each sample by itself (evaluation mode).
        a, b: images (P, ...), P at least 1.
        labels_a, labels_b: (P,).
        lambdas: the weights of ``a``.

    Raises:
        ValueError: the shapes differ, or there are no pairs.
    """
    if a.shape != b.shape or labels_a.shape != a.shape[:1] or labels_b.shape != a.shape[:1]:
        raise ValueError(
            f"a {tuple(a.shape)}, b {tuple(b.shape)}, labels {tuple(labels_a.shape)} and {tuple(labels_b.shape)}: "
            "must be (P, ...) twice and (P,) twice"
        )
    if not len(a):
        raise ValueError("a, b: there are no pairs")
    norms, misses = [], []
    for weight in lambdas:
        x = (weight * a + (1 - weight) * b).requires_grad_()
        with torch.enable_grad():
            logits = network(x)
            squares = torch.zeros(len(x), dtype=x.dtype, device=x.device)
            for k in range(logits.shape[1]):
                (gradient,) = torch.autograd.grad(logits[:, k].sum(), x, retain_graph=True)
                squares += gradient.flatten(1).square().sum(1)
        predicted = logits.detach().argmax(1)
        norms.append(squares.sqrt().mean())
        misses.append(((predicted != labels_a) & (predicted != labels_b)).to(x.dtype).mean())
    return Between(torch.stack(norms), torch.stack(misses))
