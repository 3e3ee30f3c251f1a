"""Members over ranks: each rank computes members of its own, on the images of all ranks, as one process would.

No member is computed on two ranks, and batch statistics are those of the joint batch without a message of any layer.
A step sends images, logits, the logits' gradients and running statistics once each; DDP sends the gradients as ever.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from paperzoo.norms.single import explained
from paperzoo.norms.sync import SyncBatchNorm


def may_be_spread(members: Sequence[nn.Module]) -> bool:
    """Whether each rank has as many members to do, and no layer has statistics that are each rank's own.

    A rule, so that a run repeated on as many ranks is the same.
    """
    own = any(getattr(layer, "rank_buffers", ()) for member in members for layer in member.modules())
    return len(members) % dist.get_world_size() == 0 and not own


def over_ranks(members: Sequence[nn.Module], images: Tensor, memory_format: torch.memory_format) -> list[Tensor]:
    """The logits of all members on this rank's images; every rank calls it at the same time.

    Args:
        members: M networks that give logits (B, K), a multiple of the ranks; they share no parameter or buffer.
        images: (B, C, H, W) of this rank, which get no gradient; B may differ over the ranks, and be 0.
        memory_format: of the joint batch.

    Returns:
        M logits (B, K). A gradient of them reaches the parameters on the rank that computed the member, summed over the
        ranks; on the others it is zero, and so is that of a member that no loss is of (on any rank). DDP's mean over
        the ranks is then that of the ranks' losses.
    """
    parameters = [[p for p in member.parameters() if p.requires_grad] for member in members]
    flat = [parameter for own in parameters for parameter in own]
    return list(_Spread.apply(members, parameters, images, memory_format, *flat))


class _Spread(torch.autograd.Function):
    """Forward and backward of a rank's own members."""

    @staticmethod
    def forward(
        ctx: Any, members: Any, parameters: Any, images: Tensor, memory_format: torch.memory_format, *_: Tensor
    ) -> Any:
        own = slice(dist.get_rank(), None, dist.get_world_size())
        ctx.set_materialize_grads(False)
        ctx.sizes, ctx.own, ctx.parameters = _sizes(images), own, parameters
        joint = _joint(images, ctx.sizes).contiguous(memory_format=memory_format)
        with torch.enable_grad(), _alone(members[own]), explained(len(joint), joint.shape[2:]):
            ctx.logits = [member(joint) for member in members[own]]
        _share_statistics(members)
        gathered = _gathered(torch.stack(ctx.logits).detach())  # R times (M / R, N, K): rank r has r, r + R, ...
        start = sum(ctx.sizes[: dist.get_rank()])
        logits = torch.stack(gathered, dim=1).flatten(0, 1)  # (M, N, K)
        return tuple(logits[:, start : start + len(images)].clone().unbind())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        some = next(gradient for gradient in gradients if gradient is not None)
        own = torch.stack([torch.zeros_like(some) if each is None else each for each in gradients], dim=1)
        of_all = _joint(own, ctx.sizes)  # (N, M, K)
        found = [[torch.zeros_like(parameter) for parameter in own] for own in ctx.parameters]
        for number, logits in zip(range(len(found))[ctx.own], ctx.logits, strict=True):
            parameters = ctx.parameters[number]
            if gradients[number] is not None and parameters:  # else it diverged: 0 times its NaN would be NaN
                found[number] = torch.autograd.grad(logits, parameters, of_all[:, number], allow_unused=True)
        ctx.logits = None
        return (None, None, None, None, *(gradient for own in found for gradient in own))


@contextmanager
def _alone(members: Sequence[nn.Module]) -> Iterator[None]:
    """Layers that share statistics with other ranks do not, meanwhile: their batch is that of all ranks already."""
    layers = [layer for member in members for layer in member.modules()]
    alone: list[tuple[nn.Module, str, Any]] = []
    alone += [(layer, "process_group", _this_rank(os.getpid())) for layer in layers if isinstance(layer, SyncBatchNorm)]
    alone += [(layer, "synchronise", False) for layer in layers if hasattr(layer, "synchronise")]
    before = [getattr(layer, name) for layer, name, _ in alone]
    for layer, name, value in alone:
        setattr(layer, name, value)
    try:
        yield
    finally:
        for (layer, name, _), value in zip(alone, before, strict=True):
            setattr(layer, name, value)


@lru_cache
def _this_rank(process: int) -> Any:
    """A group of this rank alone; all ranks make theirs at the same time."""
    return dist.new_subgroups(group_size=1)[0]


def _sizes(images: Tensor) -> list[int]:
    """B on each rank."""
    return [int(size) for size in _gathered(torch.tensor(len(images), device=images.device))]


def _joint(values: Tensor, sizes: list[int]) -> Tensor:
    """The rows of all ranks, (N, ...): those of rank 0, then those of rank 1, and so on."""
    padded = values.new_zeros(max(sizes), *values.shape[1:])
    padded[: len(values)] = values
    return torch.cat([rows[:size] for rows, size in zip(_gathered(padded), sizes, strict=True)])


def _gathered(value: Tensor) -> list[Tensor]:
    """Every rank's tensor of this shape, in the order of the ranks."""
    value = value.contiguous()
    found = [torch.empty_like(value) for _ in range(dist.get_world_size())]
    dist.all_gather(found, value)
    return found


def _share_statistics(members: Sequence[nn.Module]) -> None:
    """Running statistics of each member from the rank that computed it, in one message."""
    buffers = [list(member.buffers()) for member in members]
    if not any(buffers):
        return
    rank, count = dist.get_rank(), dist.get_world_size()
    flat = [torch.cat([buffer.double().flatten() for buffer in own]) for own in buffers[rank::count]]
    for n, sent in enumerate(_gathered(torch.stack(flat))):
        for own, values in zip(buffers[n::count], sent, strict=True) if n != rank else ():
            for buffer, value in zip(own, values.split([buffer.numel() for buffer in own]), strict=True):
                buffer.copy_(value.view_as(buffer))
