"""Evaluating with averages over sampled training batches instead of moving averages (Luo et al., 2019, Sec. 3.1).

All parameters are frozen; the statistics of each batch are averaged, each batch with equal weight.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from paperzoo.errors import UserError
from paperzoo.norms.layers import Normalisation


@torch.no_grad()
def batch_average(network: nn.Module, batches: Iterable[Tensor]) -> int:
    """Set the running statistics of a network to averages over batches of images (B, C, H, W).

    Returns:
        The number of batches.

    Raises:
        UserError: no layer of the network has running statistics that can be averaged, or there is no batch.
    """
    plain: list[Any] = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    own: list[Any] = [m for m in network.modules() if isinstance(m, Normalisation) and hasattr(m, "running_mean")]
    switched = [m for m in own if hasattr(m, "using_moving_average")]
    if not plain and not switched:
        raise UserError("norm_statistics=batch_average: this network has no batch statistics; use moving_average")
    before = [(m, m.momentum) for m in plain], [(m, m.using_moving_average) for m in switched]
    network.eval()
    for module in plain:
        module.reset_running_stats()
        module.momentum = None  # torch's cumulative average
        module.train()
    for module in switched:
        module.running_mean.zero_()
        module.running_var.zero_()
        module.using_moving_average = False  # sums
        module.train()
    count = 0
    for images in batches:
        network(images)
        count += 1
    if not count:
        raise UserError("norm_statistics=batch_average: there is no batch to average over")
    for module in switched:
        module.running_mean /= count
        module.running_var.div_(count).sub_(module.running_mean.square())
    for module, value in before[0]:
        module.momentum = value
    for module, value in before[1]:
        module.using_moving_average = value
    network.eval()
    return count
