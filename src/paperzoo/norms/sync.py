"""Batch normalisation over all ranks: one all-reduce forward, one backward, on any backend.

With the moments of all ranks, n = sum n_r, m = sum n_r m_r / n, v = sum n_r (v_r + m_r^2) / n - m^2, the layer
computes y = weight (x - m) / sqrt(v + eps) + bias over the global batch (Ioffe & Szegedy, 2015, Alg. 1; across
devices: Peng et al., 2018, Sec. 3.3). Each rank sends [n, n m, n (v + m^2)] as one float64 tensor of 1 + 2 C
numbers, whatever the number of ranks. Its own m and v are summed around a shift near the mean, so that nothing
cancels in float32 where the mean is large.

Shapes: x (B, C, ...), statistics (C,).
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

Group = Any  # a process group; None is all ranks


def sum_over(packed: Tensor, group: Group) -> Tensor:
    """Element-wise sum over the ranks of a group, in place."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size(group) > 1:
        dist.all_reduce(packed, group=group)
    return packed


def _axes(x: Tensor) -> list[int]:
    """All dimensions but the channels'."""
    return [0, *range(2, x.ndim)]


def _as_map(values: Tensor, x: Tensor) -> Tensor:
    """(C,) in float64 -> (1, C, 1, ...) in the type of ``x``."""
    return values.to(x.dtype).view(1, -1, *[1] * (x.ndim - 2))


def wide_enough(x: Tensor) -> Tensor:
    """Half precision is summed and normalised in float32."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def sums(a: Tensor, b: Tensor, shift: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The sums of ``a`` and of ``a (b - shift)`` over all but the channels, (C,) each, in float64.

    The kernel that sums in the backward pass of batch normalisation: one reading, nothing of the size of ``a`` is
    allocated.

    Args:
        a, b: (B, C, ...).
        shift: (C,) of each channel; None is 0.
    """
    ones, zeros = b.new_ones(b.shape[1]), b.new_zeros(b.shape[1])
    if not b.numel():
        return zeros.double(), zeros.double()
    shift = zeros if shift is None else shift.to(b.dtype)
    _, product, plain = torch.ops.aten.native_batch_norm_backward(
        a, b, ones, None, None, shift, ones, True, 0.0, [False, True, True]
    )
    return plain.double(), product.double()


def multiply_add_(x: Tensor, factor: Tensor, summand: Tensor) -> Tensor:
    """``x factor + summand`` in the place of ``x``; where the channels lie side by side (channels_last), in one pass.

    In the contiguous format two passes are faster: torch has no vectorised kernel for two numbers a channel.
    """
    if x.stride(1) == 1:
        return torch.addcmul(summand, x, factor, out=x)
    return x.mul_(factor).add_(summand)


def moments_of_all(
    count: int, shift: Tensor, first: Tensor, second: Tensor, group: Group
) -> tuple[Tensor, Tensor, Tensor]:
    """Count (1,), mean (C,) and biased variance (C,) over the ranks of a group, in float64.

    Args:
        count: numbers per channel on this rank.
        shift: (C,), what was subtracted before summing.
        first, second: (C,), the sums of what remained and of its squares.
        group: the ranks.
    """
    packed = torch.cat([
        torch.full((1,), count, dtype=torch.float64, device=shift.device),
        first + count * shift,  #                           n m
        second + shift * (2 * first + count * shift),  #    n (v + m^2)
    ])  # fmt: skip
    n, m, v = sum_over(packed, group).split([1, len(shift), len(shift)])
    m, v = m / n.clamp_min(1), v / n.clamp_min(1)
    return n, m, (v - m.square()).clamp_min(0)


class _Normalise(torch.autograd.Function):
    """The layer's arithmetic; plain operations, so that a compiler fuses them and every device has them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, group: Group) -> Any:
        wide = wide_enough(x)
        count = x.numel() // x.shape[1]
        # (C,): the mean of the first image. With m the mean of all B, (shift - m)^2 <= B v: nothing can cancel badly.
        shift = (wide[:1].sum(_axes(x)) / max(count // max(len(x), 1), 1)).double()
        d = wide - _as_map(shift, wide)  # (B, C, ...)
        first, second = sums(d, d)
        n, m, v = moments_of_all(count, shift, first, second, group)
        invstd = (v + eps).rsqrt()
        scale = invstd if weight is None else invstd * weight
        beta = scale * (shift - m)
        y = multiply_add_(d, _as_map(scale, d), _as_map(beta if bias is None else beta + bias, d))
        ctx.save_for_backward(x, weight, shift, m, invstd, n)
        ctx.group = group
        ctx.mark_non_differentiable(m, v, n)
        return y.to(x.dtype), m, v, n

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor, *_: Any) -> Any:
        x, weight, shift, m, invstd, n = ctx.saved_tensors
        wide, dy = wide_enough(x), wide_enough(dy)
        sum_dy, sum_dyd = sums(dy, wide, shift)
        sum_dyx = sum_dyd + (shift - m) * sum_dy  # of dy (x - m)
        dweight = None if weight is None else (sum_dyx * invstd).to(weight.dtype)  # of this rank: DDP averages them
        dbias = None if weight is None else sum_dy.to(weight.dtype)
        dx = None
        if ctx.needs_input_grad[0]:
            all_dy, all_dyx = (sum_over(torch.cat([sum_dy, sum_dyx]), ctx.group) / n.clamp_min(1)).chunk(2)
            scale = invstd if weight is None else invstd * weight
            slope = -scale * invstd.square() * all_dyx  # of d
            rest = -scale * all_dy + slope * (shift - m)
            d = wide - _as_map(shift, wide)
            dx = multiply_add_(d, _as_map(slope, d), _as_map(rest, d)).addcmul_(dy, _as_map(scale, d)).to(x.dtype)
        return dx, dweight, dbias, None, None


class SyncBatchNorm(_BatchNorm):
    """Batch normalisation of (B, C, ...) by the statistics of all ranks; on one rank it is batch normalisation.

    Batches may differ in size over the ranks, and be empty. Statistics of half precision are float32's. The running
    variance is the unbiased one of all ranks, v n / (n - 1). An input that a backward pass computes again
    (activation checkpointing) is not counted twice in the running statistics.

    Args:
        num_features: C.
        eps, momentum, affine, track_running_stats: as torch's BatchNorm.
        process_group: ranks that share statistics; None is all.

    Raises:
        ValueError: the input has fewer than two dimensions.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: Group = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device=device, dtype=dtype)
        self.process_group = process_group

    def _check_input_dim(self, x: Tensor) -> None:
        if x.ndim < 2:
            raise ValueError(f"expected at least 2 dimensions (B, C, ...), got {x.ndim}")

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> the same shape and type."""
        self._check_input_dim(x)
        if not self.training:  # without running statistics by those of this rank: ranks evaluate at their own pace
            own = self.running_mean is None
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, own, 0.0, self.eps)
        y, m, v, n = _Normalise.apply(x, self.weight, self.bias, self.eps, self.process_group)
        if self.track_running_stats and not is_recomputed():
            self._track(m, v * n / (n - 1).clamp_min(1), n)
        return y

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, n: Tensor) -> None:
        """Move the running statistics, unless no rank had an image."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        seen = n.sign()
        self.num_batches_tracked.add_(seen.long().squeeze())
        factor = 1 / self.num_batches_tracked.clamp_min(1) if self.momentum is None else self.momentum
        for running, now in ((self.running_mean, mean), (self.running_var, variance)):
            running.add_(seen.to(running.dtype) * factor * (now.to(running.dtype) - running))


def is_recomputed() -> bool:
    """Whether a backward pass is under way, which computes a checkpointed layer again."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1
