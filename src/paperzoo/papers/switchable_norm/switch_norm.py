"""Switchable normalisation: each layer learns how much of instance, layer and batch statistics it uses.

Luo, Ren, Peng, Zhang, Li: Differentiable Learning-to-Normalize via Switchable Normalization, ICLR 2019.

Shapes: N images, C channels, S positions (H W, or D H W).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from paperzoo.norms.layers import Normalisation
from paperzoo.norms.sync import is_recomputed, sum_over, sums, wide_enough

CACHED = 2**17  # numbers: products of so many at once stay in the processor's cache
Mix = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def _sums(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The sums of ``a`` and of ``a b`` over the positions: (N, C, S) each -> (N, C) each, in float64."""
    if a.is_contiguous() and b.is_contiguous():
        first, second = sums(a.view(1, -1, a.shape[2]), b.view(1, -1, a.shape[2]))
        return first.view(a.shape[:2]), second.view(a.shape[:2])
    images = max(1, CACHED // max(1, a.shape[1] * a.shape[2]))
    products = [(x * y).sum(dim=2) for x, y in zip(a.split(images), b.split(images), strict=True)]
    return a.sum(dim=2).double(), torch.cat(products).double()


def _as_maps(values: Tensor, x: Tensor) -> Tensor:
    """(N, C) -> (N, C, 1) in the type of ``x``."""
    return values.detach().to(x.dtype)[..., None]


class _Normalise(torch.autograd.Function):
    """scale (x - mean) + bias, where ``mix`` makes mean and scale of each image's and channel's own moments.

    The maps are read and written as often as batch normalisation does; the mixing of (N, C) numbers is left to
    autograd, within, in float64: differences of means near 1e4 would be lost.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, mix: Mix, bias: Tensor, *parameters: Tensor) -> Tensor:
        # (N, C): the mean of an eighth of the positions; (shift - mean)^2 <= 8 variance, so that nothing cancels badly.
        shift = x[..., : x.shape[2] // 8 + 1].mean(dim=2)
        d = x - shift[..., None]  # (N, C, S)
        rest, variance = (total / x.shape[2] for total in _sums(d, d))  # rest: what rounding left of the mean
        with torch.enable_grad():
            moments = (shift + rest).requires_grad_(), (variance - rest.square()).clamp_min_(0).requires_grad_()
            mean, scale = mix(*moments)  # (N, C) each
            offset = (shift - mean) * scale + bias.view(1, -1)
        ctx.mixed, ctx.inputs = (scale, offset), (*moments, bias, *parameters)
        scale = _as_maps(scale, x)
        ctx.save_for_backward(x, shift, rest, scale)
        return d.mul_(scale).add_(_as_maps(offset, x))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> Any:
        x, shift, rest, scale = ctx.saved_tensors
        d = x - shift[..., None]
        doffset, dscale = _sums(dy, d)
        wanted = [t for t in ctx.inputs if t.requires_grad]
        found = torch.autograd.grad(ctx.mixed, wanted, (dscale, doffset), retain_graph=True)
        gradients = {id(t): gradient for t, gradient in zip(wanted, found, strict=True)}
        dmean, dvariance, *dparameters = (gradients.get(id(t)) for t in ctx.inputs)
        slope = dvariance * (2 / x.shape[2])  # of x - mean, which is d - rest
        dmean = dmean / x.shape[2] - slope * rest
        dx = d.mul_(_as_maps(slope, d)).add_(_as_maps(dmean, d)).addcmul_(dy, scale)
        return dx, None, *dparameters


class _SumOverRanks(torch.autograd.Function):
    """The sum over the ranks, whose gradient is the sum of all ranks' gradients."""

    @staticmethod
    def forward(ctx: Any, packed: Tensor) -> Tensor:  # noqa: ARG004
        return sum_over(packed.clone(), None)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        return sum_over(gradient.clone(), None)


class _SwitchNorm(Normalisation):
    """What the three have in common.

    Args:
        num_features: C.
        eps: added to the mixed variance.
        momentum: the factor by which running statistics are kept (torch's is 1 - momentum).
        using_moving_average: evaluate with moving averages; else the buffers sum the statistics of the batches
            (``batch_average.finish`` divides them).
        using_bn: mix in batch statistics.
        unbiased: the official code's variances, n / (n - 1) times those of the paper's equations.
        synchronise: batch statistics over all ranks, in one all-reduce.
    """

    running_mean: Tensor
    running_var: Tensor
    kinds: tuple[str, ...]  # whose statistics are mixed, in the order of the learned weights
    spatial: int  # dimensions after the channels

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.9,
        using_moving_average: bool = True,
        using_bn: bool = True,
        unbiased: bool = False,
        *,
        synchronise: bool = False,
    ) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.using_moving_average, self.using_bn, self.unbiased = using_moving_average, using_bn, unbiased
        self.synchronise = synchronise
        self.mixed = self.kinds if using_bn else self.kinds[:-1]
        self.weight = nn.Parameter(torch.ones(1, num_features, *[1] * self.spatial))
        self.bias = nn.Parameter(torch.zeros(1, num_features, *[1] * self.spatial))
        self.mean_weight = nn.Parameter(torch.ones(len(self.mixed)))
        self.var_weight = nn.Parameter(torch.ones(len(self.mixed)))
        if using_bn:
            for name in ("running_mean", "running_var"):
                self.register_buffer(name, torch.zeros(1, num_features, *[1] * bool(self.spatial)))

    def ratios(self) -> dict[str, tuple[float, float]]:
        """The learned shares of the mean and of the variance, by kind of statistics. Eq. 5."""
        means, variances = self.mean_weight.softmax(0).tolist(), self.var_weight.softmax(0).tolist()
        return dict(zip(self.mixed, zip(means, variances, strict=True), strict=True))

    def extra_repr(self) -> str:
        """For print(network)."""
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, using_bn={self.using_bn}"

    def _check(self, x: Tensor) -> None:
        if x.ndim != 2 + self.spatial or x.shape[1] != self.num_features:
            shape = ("N", str(self.num_features), "D", "H", "W")[:2] + ("D", "H", "W")[3 - self.spatial :]
            raise ValueError(f"{type(self).__name__} takes ({', '.join(shape)}), got {tuple(x.shape)}")

    def _mix(self, means: list[Tensor], variances: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Eq. 3: the sums over the kinds, each with its own softmax."""
        share_mean, share_var = self.mean_weight.softmax(0), self.var_weight.softmax(0)
        mean = sum(share * value for share, value in zip(share_mean, means, strict=True))
        variance = sum(share * value for share, value in zip(share_var, variances, strict=True))
        return mean, variance

    def _batch_statistics(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C) each -> (1, C) each: of this batch (of all ranks) in training, the running ones in evaluation."""
        if not self.training:
            return self.running_mean.view(1, -1), self.running_var.view(1, -1)
        batch_mean, batch_variance = self._over_batch(mean, variance)
        if not is_recomputed():
            self._track(batch_mean.detach(), batch_variance.detach())
        return batch_mean, batch_variance

    def _over_batch(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 4, last row: the mean over the images of what each image has."""
        if self.synchronise:
            wide = mean.double()
            own = [wide.new_full((1,), len(mean)), wide.sum(0), (variance.double() + wide.square()).sum(0)]
            n, *sums_of_all = _SumOverRanks.apply(torch.cat(own)).split([1, mean.shape[1], mean.shape[1]])
            first, second = (total / n.clamp_min(1) for total in sums_of_all)
            return first[None], (second - first.square()).clamp_min(0)[None]
        batch_mean = mean.mean(0, keepdim=True)
        return batch_mean, variance.mean(0, keepdim=True) + (mean - batch_mean).square().mean(0, keepdim=True)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        now = (mean, variance) if self.using_moving_average else (mean, variance + mean.square())
        for running, value in zip((self.running_mean, self.running_var), now, strict=True):
            if self.using_moving_average:
                running.mul_(self.momentum)
            share = 1 - self.momentum if self.using_moving_average else 1.0
            running.add_(value.to(running).view_as(running), alpha=share)


class SwitchNorm2d(_SwitchNorm):
    """Of images (N, C, H, W): instance, layer and batch statistics, in this order."""

    kinds = ("instance", "layer", "batch")
    spatial = 2

    def forward(self, x: Tensor) -> Tensor:
        """The same shape and type."""
        self._check(x)
        wide = wide_enough(x).flatten(2)  # (N, C, S)
        y = _Normalise.apply(
            wide, self._statistics(wide.shape[2]), self.bias, self.weight, self.mean_weight, self.var_weight
        )
        return y.to(x.dtype).view(x.shape)

    def _statistics(self, positions: int) -> Mix:
        """What makes the mean and the scale (N, C) of the moments (N, C) of each image and channel."""

        def mix(mean_in: Tensor, var_in: Tensor) -> tuple[Tensor, Tensor]:
            if self.unbiased:
                var_in = var_in * (positions / max(positions - 1, 1))
            mean_ln = mean_in.mean(1, keepdim=True)  # (N, 1)                               Eq. 4, second row
            var_ln = var_in.mean(1, keepdim=True) + (mean_in - mean_ln).square().mean(1, keepdim=True)
            means, variances = [mean_in, mean_ln], [var_in, var_ln]
            if self.using_bn:
                mean_bn, var_bn = self._batch_statistics(mean_in, var_in)  # (1, C)
                means.append(mean_bn)
                variances.append(var_bn)
            mean, variance = self._mix(means, variances)  # (N, C)
            return mean, self.weight.view(1, -1) * torch.rsqrt(variance + self.eps)  #      Eq. 3

        return mix


class SwitchNorm3d(SwitchNorm2d):
    """Of volumes (N, C, D, H, W)."""

    spatial = 3

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.997, *args: Any, **kwargs: Any):
        super().__init__(num_features, eps, momentum, *args, **kwargs)


class SwitchNorm1d(_SwitchNorm):
    """Of features (N, C): layer and batch statistics."""

    kinds = ("layer", "batch")
    spatial = 0

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.997, *args: Any, **kwargs: Any):
        super().__init__(num_features, eps, momentum, *args, **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape and type."""
        self._check(x)
        wide = wide_enough(x)
        correction = int(self.unbiased)
        var_ln, mean_ln = torch.var_mean(wide, 1, correction=correction, keepdim=True)  # (N, 1)
        means, variances = [mean_ln], [var_ln]
        if self.using_bn:
            mean_bn, var_bn = self._batch_statistics(wide, torch.zeros_like(wide))  # (1, C)
            means.append(mean_bn)
            variances.append(var_bn)
        mean, variance = self._mix(means, variances)
        y = self.weight * (wide - mean) * torch.rsqrt(variance + self.eps) + self.bias
        return y.to(x.dtype)

    def _over_batch(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        batch_mean, batch_variance = super()._over_batch(mean, variance)
        return batch_mean, batch_variance * (len(mean) / max(len(mean) - 1, 1)) if self.unbiased else batch_variance
