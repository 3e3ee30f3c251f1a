"""Replacing the normalisation layers of any network.

Affine parameters carry over; statistics carry over where the new layer has a place for them, and are not lost
silently where it has none. A layer that also activates (timm's BatchNormAct2d) goes on doing so, under the same
names in the state dict.
"""

import inspect
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from omegaconf import OmegaConf
from timm.layers.norm_act import BatchNormAct2d, FrozenBatchNormAct2d, GroupNormAct
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.ops import FrozenBatchNorm2d

from paperzoo.config.building import locate
from paperzoo.config.messages import CONF, nearest
from paperzoo.errors import UserError
from paperzoo.norms.layers import channels, is_norm

Factory = Callable[..., nn.Module]
FROZEN = (FrozenBatchNorm2d, FrozenBatchNormAct2d)
FUSED = (BatchNormAct2d, FrozenBatchNormAct2d, GroupNormAct)  # normalise, drop and activate
PLAIN = "torch.nn."  # classes whose forward is known to normalise and do no more
NOT_OPTIONS = ("name", "_target_", "convolution")


def convert(
    network: nn.Module,
    norm: str | Factory,
    *,
    convolution: str | Callable[..., nn.Module] | None = None,
    frozen: bool = False,
    forget_statistics: bool = False,
    only: type[nn.Module] | None = None,
    **options: Any,
) -> nn.Module:
    """Replace the normalisation layers of a network, in place.

    Args:
        network: any module; if it is itself a normalisation layer, the new one is returned.
        norm: a word of ``norm=`` (a file in ``conf/norm/``), or a class or function called with C and the options.
            For layers of another number of dimensions than two, its sibling is used (SwitchNorm1d of SwitchNorm2d).
        convolution: a class that replaces the 2d convolutions, or its dotted path (MABN centralises its kernels).
        frozen: also replace frozen batch normalisation (torchvision's and timm's); its parameters then train.
        forget_statistics: allow statistics of a trained network to be lost where the new layer has none.
        only: replace layers of this class alone.
        options: the norm's own.

    Returns:
        The network.

    Raises:
        UserError: no such norm or option, nothing to replace, or a layer that cannot be replaced faithfully.
    """
    if isinstance(norm, str):
        norm, convolution, options = _chosen(norm, convolution, options)
    found = [
        (name, module)
        for name, module in network.named_modules(remove_duplicate=False)
        if (is_norm(module) or (frozen and isinstance(module, FROZEN))) and isinstance(module, only or nn.Module)
    ]
    if not found:
        raise UserError(f"{type(network).__name__} has no normalisation layers to replace; use norm=paper")
    made: dict[int, nn.Module] = {}  # a layer that is used twice stays one
    for name, old in found:
        if id(old) not in made:
            made[id(old)] = _replace(name, old, norm, options, forget_statistics)
    for name, old in found:
        network = _put(network, name, made[id(old)])
    return _swap_convolutions(network, convolution) if convolution else network


def converted(
    build: Callable[..., nn.Module],
    norm: Factory,
    takes: tuple[str, ...],
    pretrained: bool,
    options: dict[str, Any],
    **defaults: Any,
) -> nn.Module:
    """A network built and converted, as a norm paper's entries in timm's registry are.

    Args:
        build: makes the network from ``pretrained`` and the options that are its own.
        norm: see ``convert``.
        takes: the options that are the norm's.
        pretrained, options: as timm gives them.
        defaults: of the norm, and ``convert``'s own arguments.
    """
    own = {key: value for key, value in options.items() if key in takes}
    rest = {key: value for key, value in options.items() if key not in takes}
    return convert(build(pretrained, **rest), norm, **defaults | own)


def _chosen(norm: str, convolution: Any, options: dict[str, Any]) -> tuple[Factory, Any, dict[str, Any]]:
    """The factory, convolution and options of a word of ``norm=``."""
    words = sorted(path.stem for path in (CONF / "norm").glob("*.yaml"))
    if norm not in words:
        raise UserError(
            f"norm={norm}: there is no such normalisation; there are {', '.join(words)}{nearest(norm, words)}"
        )
    node: Any = OmegaConf.load(CONF / "norm" / f"{norm}.yaml")
    if norm == "paper":
        raise UserError("norm=paper: keeps the paper's layers, there is nothing to convert")
    given: dict[str, Any] = {}
    for key in node:
        if key not in NOT_OPTIONS and key not in options:
            if OmegaConf.is_interpolation(node, key):
                raise UserError(f"norm={norm}: {key} must be given, it depends on the run")
            given[str(key)] = node[key]
    given |= options
    known = {key: value for key, value in given.items() if value is not None}
    return locate(node["_target_"]), convolution or node.get("convolution"), known


def _replace(name: str, old: Any, norm: Factory, options: dict[str, Any], forget_statistics: bool) -> nn.Module:
    """A new layer with the old one's parameters, statistics, place, mode and activation."""
    _demand_known_forward(name, old)
    factory = _for_dimensions(name, old, norm)
    takes = inspect.signature(factory).parameters
    unknown = [key for key in options if key not in takes and not _takes_any(takes)]
    if unknown:
        raise UserError(f"norm: {_name(factory)} has no {unknown[0]}; it takes {', '.join(list(takes)[1:])}")
    affine = getattr(old, "weight", None) is not None
    inherited: dict[str, Any] = {"eps": old.eps} if "eps" in takes and hasattr(old, "eps") else {}
    if "affine" in takes:
        inherited["affine"] = affine
    if isinstance(old, _BatchNorm) and isinstance(factory, type) and issubclass(factory, _BatchNorm):
        inherited |= {"momentum": old.momentum, "track_running_stats": old.track_running_stats}
    if "process_group" in takes and hasattr(old, "process_group"):
        inherited["process_group"] = old.process_group
    new = factory(channels(old) if not isinstance(old, FROZEN) else len(old.weight), **inherited | options)
    like = next((t for t in (*old.parameters(), *old.buffers()) if t.is_floating_point()), None)
    if like is not None:
        new.to(device=like.device, dtype=like.dtype)
    if affine != (getattr(new, "weight", None) is not None) and affine:
        raise UserError(f"{name}: {type(old).__name__} has a scale and a shift, {_name(factory)} has no place for them")
    _carry_parameters(old, new)
    _carry_statistics(name, old, new, forget_statistics)
    if isinstance(old, FUSED) or _drop_and_activate in old._forward_hooks.values():  # the latter was converted before
        new.drop, new.act = getattr(old, "drop", nn.Identity()), old.act
        new.register_forward_hook(_drop_and_activate)
    return new.train(old.training)


def _drop_and_activate(module: Any, inputs: Any, output: Tensor) -> Tensor:
    """What timm's fused layers do after they have normalised."""
    return module.act(module.drop(output))


def _demand_known_forward(name: str, old: nn.Module) -> None:
    """A subclass that does more in its forward would silently lose it."""
    owner = next(kind for kind in type(old).__mro__ if "forward" in vars(kind))
    known = owner in FUSED or owner in FROZEN or owner.__module__.startswith((PLAIN, "paperzoo."))
    if not known:
        raise UserError(
            f"{name}: {type(old).__name__} has a forward of its own ({owner.__module__}), which would be lost; "
            "replace it by hand"
        )


def _for_dimensions(name: str, old: nn.Module, factory: Factory) -> Factory:
    """The factory, or its sibling for 1d or 3d layers."""
    wanted = re.search(
        r"([13])d$", next((k.__name__ for k in type(old).__mro__ if k.__name__[-2:] in ("1d", "3d")), "")
    )
    given = _name(factory)
    if not wanted or not given.endswith("2d"):
        return factory
    sibling = getattr(inspect.getmodule(factory), f"{given[:-2]}{wanted[1]}d", None)
    if sibling is None:
        raise UserError(f"{name}: {type(old).__name__} cannot become {given}, which has no form for {wanted[1]}d")
    return sibling


@torch.no_grad()
def _carry_parameters(old: Any, new: Any) -> None:
    for key in ("weight", "bias"):
        before, after = getattr(old, key, None), getattr(new, key, None)
        if before is not None and after is not None:
            getattr(new, key).copy_(before.view(after.shape))
            getattr(new, key).requires_grad_(before.requires_grad or isinstance(old, FROZEN))
    own = list(old.parameters())
    if own and not any(parameter.requires_grad for parameter in own):
        new.requires_grad_(False)  # what the new layer has beside them, too


@torch.no_grad()
def _carry_statistics(name: str, old: Any, new: Any, forget: bool) -> None:
    """Running mean and variance mean the same in every layer that has both; else a trained network would lose them."""
    if not _is_trained(old):
        return
    if getattr(new, "running_mean", None) is not None and getattr(new, "running_var", None) is not None:
        for key in ("running_mean", "running_var", "num_batches_tracked"):
            before, after = getattr(old, key, None), getattr(new, key, None)
            if before is not None and after is not None:
                after.copy_(before.view(after.shape))
    elif not forget:
        raise UserError(
            f"{name}: {type(old).__name__} holds statistics of training, {type(new).__name__} has no place for them; "
            "replace layers before training or loading weights, or pass forget_statistics=True"
        )


def _is_trained(old: Any) -> bool:
    """Whether there are statistics other than those that layers begin with."""
    mean, variance = getattr(old, "running_mean", None), getattr(old, "running_var", None)
    if variance is None or variance.is_meta:
        return mean is not None and not mean.is_meta
    begins = bool((variance == 0).all() or (variance == 1).all())
    return not begins or (mean is not None and bool(mean.any()))


def _put(network: nn.Module, name: str, module: nn.Module) -> nn.Module:
    """Set a submodule by its dotted name; the empty name is the network."""
    if not name:
        return module
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, module)
    return network


def _swap_convolutions(network: nn.Module, convolution: str | Callable[..., nn.Module]) -> nn.Module:
    """Replace 2d convolutions, keeping their weights; not those with one weight a kernel, which has no spread."""
    factory = locate(convolution) if isinstance(convolution, str) else convolution
    made: dict[int, nn.Module] = {}  # a convolution that is used twice stays one
    for name, old in list(network.named_modules(remove_duplicate=False)):
        if isinstance(old, nn.Conv2d) and old.weight[0].numel() > 1:
            if id(old) not in made:
                made[id(old)] = _convolution_like(name, old, factory)
            network = _put(network, name, made[id(old)])
    return network


def _convolution_like(name: str, old: nn.Conv2d, factory: Callable[..., nn.Module]) -> nn.Module:
    if isinstance(factory, type) and isinstance(old, factory):
        return old
    if type(old) is not nn.Conv2d:
        raise UserError(f"{name}: {type(old).__name__} has a forward of its own; {_name(factory)} cannot replace it")
    if old.padding_mode != "zeros" or isinstance(old.padding, str):
        raise UserError(f"{name}: a convolution with padding {old.padding_mode}, {old.padding} cannot be replaced")
    new: Any = factory(
        old.in_channels, old.out_channels, old.kernel_size, old.stride, old.padding, old.dilation, old.groups,
        bias=old.bias is not None,
    )  # fmt: skip
    new.weight, new.bias = old.weight, old.bias  # the same parameters: where they lie, and whether they train
    return new.train(old.training)


def _takes_any(parameters: Any) -> bool:
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


def _name(factory: Any) -> str:
    return factory.func.__name__ if isinstance(factory, partial) else getattr(factory, "__name__", repr(factory))
