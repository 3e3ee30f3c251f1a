"""Moving-average batch normalisation: small batches normalised by the statistics of the last ones too.

Yan, Wan, Zhang, Zhang, Wei, Sun: Towards Stabilizing Batch Statistics in Backward Propagation of Batch
Normalization, ICLR 2020.

Nothing is subtracted: the layer divides by the root of the second moment, and centralised kernels keep the mean
near zero. Shapes: x (N, C, H, W), statistics (C,).
"""

from typing import Any

import torch
from torch import Tensor, nn

from paperzoo.errors import UserError
from paperzoo.norms.layers import Normalisation
from paperzoo.norms.sync import is_recomputed, wide_enough

REAL_B = 32  # the batch size that is simulated by default
RENORM_AFTER, RENORM_LIMIT = 1000, 5.0  # iterations without renormalisation; r stays in [1/5, 5]


def _map(values: Tensor) -> Tensor:
    """(C,) -> (1, C, 1, 1)."""
    return values.view(1, -1, 1, 1)


class _Normalise(torch.autograd.Function):
    """Forward and backward by the paper's equations; the backward is not the forward's gradient, by design."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, layer: "MABN2d", var: Tensor, r: Tensor) -> Tensor:
        sigma = (var + layer.eps).sqrt()
        z = x / _map(sigma)
        ctx.save_for_backward(z, weight, sigma, r)
        ctx.layer, ctx.slot, ctx.averages = layer, layer.slot, layer.averages
        return (z * _map(r * weight)).add_(_map(bias))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> Any:
        z, weight, sigma, r = ctx.saved_tensors
        dyz = (dy * z).sum(dim=(0, 2, 3))  # (C,)
        count = z.numel() / z.shape[1]
        mean_gz = ctx.layer.average(ctx.layer.buffer_gz, dyz * weight * r / count, ctx.slot, ctx.averages)
        dx = (dy * _map(weight * r)).sub_(z * _map(mean_gz)).div_(_map(sigma))
        return dx, dyz * r, dy.sum(dim=(0, 2, 3)), None, None, None


class MABN2d(Normalisation):
    """Normalises images (N, C, H, W) by E[x^2] over the last ``real_B / B`` batches.

    Args:
        channels: C.
        B: images of a batch on this rank.
        real_B: images whose statistics are simulated, a multiple of ``B``; None is the first from 32 on.
        eps: added to the second moment.
        momentum: the factor by which the running second moment is kept (torch's is 1 - momentum).
        warmup_iters: iterations that use their own batch alone.

    Raises:
        UserError: ``real_B`` is no multiple of ``B``.
    """

    rank_buffers = ("buffer_x2", "buffer_gz")  # each rank has its own: not broadcast, saved for each rank
    running_var: Tensor
    iters: Tensor
    buffer_x2: Tensor
    buffer_gz: Tensor

    def __init__(
        self,
        channels: int,
        B: int,  # noqa: N803 - the paper's name
        real_B: int | None = None,  # noqa: N803
        eps: float = 1e-5,
        momentum: float = 0.98,
        warmup_iters: int = 100,
    ) -> None:
        super().__init__()
        real = -(-REAL_B // B) * B if real_B is None else real_B
        if real % B or real < B:
            raise UserError(f"norm=mabn: real_B={real_B} must be a multiple of B={B}, the images of a batch on a rank")
        self.num_features, self.eps, self.momentum, self.warmup_iters = channels, eps, momentum, warmup_iters
        self.buffer_size = real // B
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(1, channels, 1, 1))
        self.register_buffer("iters", torch.zeros(1, dtype=torch.int64))
        self.register_buffer("buffer_x2", torch.zeros(self.buffer_size, channels))
        self.register_buffer("buffer_gz", torch.zeros(self.buffer_size, channels))

    def extra_repr(self) -> str:
        """For print(network)."""
        return f"{self.num_features}, batches={self.buffer_size}, eps={self.eps}, momentum={self.momentum}"

    @property
    def slot(self) -> Tensor:
        """(1,): where this iteration's statistics go in the buffers."""
        return self.iters % self.buffer_size

    @property
    def averages(self) -> Tensor:
        """(1,): whether the buffers are full and warm-up is over."""
        return (self.iters > self.buffer_size) & (self.iters >= self.warmup_iters)

    @torch.no_grad()
    def average(self, buffer: Tensor, now: Tensor, slot: Tensor, averages: Tensor) -> Tensor:
        """Put a statistic (C,) in its place; the simple moving average, or the statistic itself in warm-up."""
        buffer.index_copy_(0, slot, now.to(buffer)[None])
        return torch.where(averages, buffer.mean(dim=0).to(now), now)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape and type."""
        wide = wide_enough(x)
        if not self.training or not len(x):  # no images have no statistics: they would be NaN
            scale = _map(self.weight) / (self.running_var + self.eps).sqrt()
            return (wide * scale + _map(self.bias)).to(x.dtype)
        again = is_recomputed()
        if not again:
            self.iters += 1
        with torch.no_grad():
            var = self.average(self.buffer_x2, wide.square().mean(dim=(0, 2, 3)), self.slot, self.averages)
            if not again:
                self._r = self._renormalisation(var)  # kept for a recomputation: the running root moves on below
        y = _Normalise.apply(wide, self.weight, self.bias, self, var, self._r)
        if not again:
            self.running_var.mul_(self.momentum).add_(_map(var).to(self.running_var), alpha=1 - self.momentum)
        return y.to(x.dtype)

    def _renormalisation(self, var: Tensor) -> Tensor:
        """R = sigma of the buffer over the running sigma, within limits; 1 in the beginning."""
        r = ((var + self.eps) / (self.running_var.flatten() + self.eps)).sqrt().clamp(1 / RENORM_LIMIT, RENORM_LIMIT)
        return torch.where(self.iters > max(RENORM_AFTER, self.warmup_iters), r, torch.ones_like(r))


class CenConv2d(nn.Conv2d):
    """A convolution whose kernels have mean zero, each over its input channels and places.

    Args:
        in_planes, out_planes, kernel_size, stride, padding, dilation, groups, bias: as torch's Conv2d.
    """

    def __init__(
        self,
        in_planes: int,
        out_planes: int,
        kernel_size: Any = 3,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__(in_planes, out_planes, kernel_size, stride, padding, dilation, groups, bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, H', W')."""
        return self._conv_forward(x, self.weight - self.weight.mean(dim=(1, 2, 3), keepdim=True), self.bias)
