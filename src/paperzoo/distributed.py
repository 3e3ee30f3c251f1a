"""The few collectives that Paperzoo's own code needs; each is the identity in a single process."""

from collections.abc import Collection
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def ranks() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_ranks(values: list[float], device: torch.device) -> list[float]:
    """Element-wise sum over all ranks, in float64."""
    if ranks() == 1:
        return values
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    return tensor.tolist()


def max_over_ranks(values: list[int], device: torch.device) -> list[int]:
    """Element-wise maximum over all ranks."""
    if ranks() == 1:
        return values
    tensor = torch.tensor(values, dtype=torch.int64, device=device)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return tensor.tolist()


def weight_of_rank(images: int, device: torch.device) -> Tensor:
    """What a rank's mean loss is multiplied with, so that DDP's mean over the ranks is the mean over the images.

    The number of its images times the ranks, over the number of all ranks' images.
    """
    total = torch.tensor(float(images), device=device)
    dist.all_reduce(total)
    return images * ranks() / total.clamp_min(1)


def buffers_from_rank_zero(network: nn.Module, but: Collection[str]) -> None:
    """Rank 0's buffers (running statistics) on every rank, so that all evaluate what a checkpoint holds."""
    if ranks() == 1:
        return
    for name, buffer in network.named_buffers():
        if name not in but:
            dist.broadcast(buffer, src=0)


def wait_for_all() -> None:
    """Go on when every rank is here."""
    if ranks() > 1:
        dist.barrier()


def gather(value: Any) -> list[Any]:
    """Every rank's plain value, in the order of the ranks."""
    if ranks() == 1:
        return [value]
    values: list[Any] = [None] * ranks()
    dist.all_gather_object(values, value)
    return values


def from_rank_zero(value: Any) -> Any:
    """Rank 0's plain value, on every rank."""
    if ranks() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]
