"""Switchable normalisation: each layer learns how much of instance, layer and batch statistics it uses.

Luo, Ren, Peng, Zhang, Li: Differentiable Learning-to-Normalize via Switchable Normalization, ICLR 2019.

Shapes: N images, C channels, S positions (H W, or D H W).
"""

from typing import Any

import torch
from torch import Tensor, nn

from paperzoo.norms.layers import Normalisation
from paperzoo.norms.sync import is_recomputed, multiply_add_, sum_over, sums, wide_enough

CACHED = 2**18  # numbers: products of so many at once stay in the processor's cache


def _sums(a: Tensor, b: Tensor, shift: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The sums of ``a`` and of ``a (b - shift)`` over the positions, (N, C) each, in float64.

    Args:
        a, b: (N, C, S).
        shift: (N, C); None is 0.
    """
    images, channels, positions = b.shape
    if a.is_contiguous() or b.is_contiguous():
        a, b = a.reshape(1, -1, positions), b.reshape(1, -1, positions)
        first, second = sums(a, b, None if shift is None else shift.flatten())
        return first.view(images, channels), second.view(images, channels)
    together = max(1, CACHED // max(channels * positions, 1))
    d = b.split(together) if shift is None else map(torch.sub, b.split(together), shift[..., None].split(together))
    products = [torch.mul(*few).sum(dim=2) for few in zip(d, a.split(together), strict=True)]
    return a.sum(dim=2).double(), torch.cat(products).double()


def _as_maps(values: Tensor, x: Tensor) -> Tensor:
    """(N, C) -> (N, C, 1) in the type of ``x``."""
    return values.to(x.dtype)[..., None]


class _Own:
    """Means and variances (2, N, C) as they are: each image's and channel's own. Eq. 4, first row."""

    def __init__(self, moments: Tensor) -> None:
        self.moments = moments

    def backward(self, gradient: Tensor) -> Tensor:
        """Of the moments -> of each image's and channel's own, (2, N, C)."""
        return gradient


class _Running(_Own):
    """Those of training, (2, 1, C)."""

    def backward(self, gradient: Tensor) -> Tensor:
        """None."""
        return torch.zeros_like(gradient)


class _Pooled(_Own):
    """Of all numbers of an image (over dim 2), or of a channel (over dim 1; also over ranks). Eq. 4, other rows."""

    def __init__(self, own: Tensor, dim: int, *, over_ranks: bool = False, unbiased: bool = False) -> None:
        self.own, self.dim, self.over_ranks = own, dim, over_ranks
        means, variances = own
        total = torch.stack([means, variances + means.square()]).sum(dim, keepdim=True)
        self.count = own.new_full((1,), own.shape[dim])
        if over_ranks:
            packed = sum_over(torch.cat([self.count, total.flatten()]), None)
            self.count, total = packed[:1], packed[1:].view_as(total)
        mean, second = total / self.count.clamp_min(1)
        self.correction = self.count / (self.count - 1).clamp_min(1) if unbiased else 1
        super().__init__(torch.stack([mean, (second - mean.square()).clamp_min(0) * self.correction]))

    def backward(self, gradient: Tensor) -> Tensor:
        """Each mean moves the mean and, by its distance from it, the variance."""
        total = gradient.sum(self.dim, keepdim=True)
        of_mean, of_variance = (sum_over(total, None) if self.over_ranks else total) / self.count.clamp_min(1)
        of_variance = of_variance * self.correction
        distance = self.own[0] - self.moments[0]
        return torch.stack([of_mean + 2 * distance * of_variance, of_variance.expand_as(distance)])


class _Mixture:
    """The sums over the kinds of statistics, the means and the variances each with a softmax of its own. Eq. 3 and 5.

    A few (N, C) numbers in float64. Its gradient is written out: autograd's bookkeeping would take as long as a map.
    """

    def __init__(self, kinds: list[_Own], mean_weight: Tensor, var_weight: Tensor) -> None:
        self.kinds = kinds
        self.shares = torch.stack([mean_weight, var_weight]).double().softmax(1)  # (2, kinds)

    def _shared(self) -> Any:
        """Each kind with its shares (2, 1, 1)."""
        return zip(self.kinds, self.shares[..., None, None].unbind(1), strict=True)

    def moments(self) -> Tensor:
        """Mixed means and variances, (2, N, C)."""
        return sum(share * kind.moments for kind, share in self._shared())

    def backward(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Of the mixed moments -> of each image's and channel's own, (2, N, C), and of both weights, (2, kinds)."""
        of_own = sum(kind.backward(share * gradient) for kind, share in self._shared())
        of_shares = torch.stack([(gradient * kind.moments).sum((1, 2)) for kind in self.kinds], dim=1)
        return of_own, self.shares * (of_shares - (self.shares * of_shares).sum(1, keepdim=True))


class _Normalise(torch.autograd.Function):
    """weight (x - mean) / sqrt(variance + eps) + bias with mixed moments (Eq. 3), for x (N, C, S).

    The maps are read and written about as often as batch normalisation does.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: "_SwitchNorm", weight: Tensor, bias: Tensor, *weights: Tensor) -> Tensor:
        positions = x.shape[2]
        # (N, C): the mean of an eighth of the positions; (shift - mean)^2 <= 8 variance, so that nothing cancels badly.
        shift = x[..., : positions // 8 + 1].mean(dim=2)
        d = x - shift[..., None]  # (N, C, S)
        first, second = _sums(d, d)
        rest = first / positions  # what rounding left of the mean
        ctx.freedom = max(positions - layer.unbiased, 1)
        own = torch.stack([shift + rest, (second - first * rest).clamp_min(0) / ctx.freedom])
        ctx.mixture = _Mixture(layer.kinds_of(own), *weights)
        mean, variance = ctx.mixture.moments()
        invstd = (variance + layer.eps).rsqrt()
        scale, distance = invstd * weight.view(1, -1), shift - mean
        ctx.save_for_backward(x, shift, rest, distance, invstd, weight)
        return multiply_add_(d, _as_maps(scale, d), _as_maps(distance * scale + bias.view(1, -1), d))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> Any:
        x, shift, rest, distance, invstd, weight = ctx.saved_tensors
        sum_dy, sum_dyd = _sums(dy, x, shift)
        sum_dyx = sum_dyd + distance * sum_dy  # of dy (x - mean)
        scale = invstd * weight.view(1, -1)
        of_mixed = torch.stack([-scale * sum_dy, -scale * invstd.square() * sum_dyx / 2])
        (of_mean, of_variance), of_weights = ctx.mixture.backward(of_mixed)
        slope = 2 / ctx.freedom * of_variance  # of d - rest
        offset = of_mean / x.shape[2] - slope * (shift + rest)
        dx = torch.addcmul(_as_maps(offset, x), x, _as_maps(slope, x)).addcmul_(dy, _as_maps(scale, x))
        of_affine = ((sum_dyx * invstd).sum(0), sum_dy.sum(0))
        return dx, None, *(gradient.view_as(weight).to(weight.dtype) for gradient in of_affine), *of_weights


class _SwitchNorm(Normalisation):
    """What the three have in common.

    Args:
        num_features: C.
        eps: added to the mixed variance.
        momentum: the factor by which running statistics are kept (torch's is 1 - momentum).
        using_moving_average: evaluate with moving averages; else the buffers sum the statistics of the batches, and
            evaluation needs averages in their place (``paperzoo.norms.batch_average``).
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

    @staticmethod
    def training_callback() -> Any:
        """What a run with such layers writes down as it goes: see ``Task.configure_callbacks``."""
        from paperzoo.papers.switchable_norm.ratios import NormRatios

        return NormRatios()

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

    def forward(self, x: Tensor) -> Tensor:
        """The same shape and type."""
        self._check(x)
        wide = wide_enough(x)
        maps = wide.flatten(2) if self.spatial else wide[..., None]  # (N, C, S)
        y = _Normalise.apply(maps, self, self.weight, self.bias, self.mean_weight, self.var_weight)
        return y.to(x.dtype).view(x.shape)

    def kinds_of(self, own: Tensor) -> list[_Own]:
        """The kinds of statistics that are mixed, from each image's and channel's own (2, N, C)."""
        unbiased = self.unbiased and not self.spatial  # else those of one's own are, already
        kinds = [_Own(own)] if self.spatial else []
        kinds.append(_Pooled(own, dim=2, unbiased=unbiased))
        if self.using_bn and self.training:
            kinds.append(_Pooled(own, dim=1, over_ranks=self.synchronise, unbiased=unbiased))
            if not is_recomputed() and (own.shape[1] or self.synchronise):  # no images, no news
                self._track(*kinds[-1].moments)
        elif self.using_bn:
            kinds.append(_Running(torch.stack([self.running_mean.view(1, -1), self.running_var.view(1, -1)])))
        return kinds

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
