"""An optimiser over a network's parameters, with weight decay kept off norms and biases by option."""

import difflib
import inspect
from fnmatch import fnmatchcase
from typing import Any

import torch
from timm.optim import create_optimizer_v2, get_optimizer_info, list_optimizers, param_groups_layer_decay
from torch import nn

from paperzoo.config import build
from paperzoo.config.building import locate
from paperzoo.config.schema import Optimizer
from paperzoo.errors import UserError
from paperzoo.norms import is_norm

OTHERS = ("bnb*", "fused*")  # of timm's list: they need packages of their own


def make(network: nn.Module, choice: Optimizer, *, precision: str = "32-true") -> torch.optim.Optimizer:
    """Build the chosen optimiser for the parameters that require gradients.

    Its fused form, one pass over the memory (``benchmarks/optimizers.py``), except under ``16-mixed`` and
    ``bf16-mixed``: there it would unscale the gradients itself, for which Lightning refuses to clip them.
    """
    fused = {"fused": not precision.endswith("-mixed")} if _has_fused_form(choice.target) else {}
    return build(choice, parameter_groups(network, choice), **fused)


def from_timm(params: Any, opt: str, lr: float, weight_decay: float, **options: Any) -> torch.optim.Optimizer:
    """An optimiser by timm's name for it.

    Args:
        params: groups, or parameters.
        opt: one of ``timm.optim.list_optimizers()``, without those of other packages and those of second order.
        lr, weight_decay: of all groups that say nothing else.
        options: what the optimiser takes besides, such as ``momentum``, ``betas``, ``eps``.

    Raises:
        UserError: there is no such optimiser, or it does not take an option.
    """
    known = list_optimizers(exclude_filters=list(OTHERS))
    if opt not in known:
        near = difflib.get_close_matches(opt, known, n=1)
        hint = f". Did you mean {near[0]}?" if near else ""
        raise UserError(f"optimizer.opt={opt}: there is no such optimiser; timm has {', '.join(known)}{hint}")
    if get_optimizer_info(opt).second_order:
        raise UserError(f"optimizer.opt={opt}: needs second derivatives, which training here does not compute")
    made = create_optimizer_v2(params, opt=opt, lr=lr, weight_decay=weight_decay, filter_bias_and_bn=False, **options)
    ignored = next((name for name in options if name not in made.defaults), None)  # timm says nothing of it
    if ignored:
        raise UserError(f"optimizer.{ignored}={options[ignored]}: {opt} has no {ignored}; leave it null")
    return made


def _has_fused_form(target: str) -> bool:
    return target.startswith("torch.optim.") and "fused" in inspect.signature(locate(target)).parameters


def parameter_groups(network: nn.Module, choice: Optimizer) -> list[dict[str, Any]]:
    """One group with weight decay, and one without where norms and biases are to be spared.

    To be spared are the parameters with at most one dimension (timm's rule), and all of a normalisation layer:
    those of Switchable Norm have four.
    """
    if choice.layer_decay is not None or choice.lr_factors:
        return _by_rate(network, choice)
    of_norms = _of_norms(network)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if choice.decay_norms_and_biases or choice.weight_decay == 0:
        return [{"params": parameters}]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1 and id(p) not in of_norms]},
        {"params": [p for p in parameters if p.ndim <= 1 or id(p) in of_norms], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _of_norms(network: nn.Module) -> set[int]:
    return {id(p) for module in network.modules() if is_norm(module) for p in module.parameters(recurse=False)}


def _by_rate(network: nn.Module, choice: Optimizer) -> list[dict[str, Any]]:
    """A group for each rate and kind of decay, the largest rate first: it is the one that is logged."""
    of_norms, factors = _of_norms(network), factors_of(network, choice)
    spared = not choice.decay_norms_and_biases
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            decays = not (spared and (parameter.ndim <= 1 or id(parameter) in of_norms))
            groups.setdefault((factors[name], decays), []).append(parameter)
    return [
        {"params": groups[key], "lr": choice.lr * key[0], "weight_decay": choice.weight_decay if key[1] else 0.0}
        for key in sorted(groups, reverse=True)
    ]


def factors_of(network: nn.Module, choice: Optimizer) -> dict[str, float]:
    """The factor of the learning rate of each trained parameter: timm's layer decay times ``lr_factors``.

    Raises:
        UserError: a pattern matches no trained parameter, or the network's layers cannot be distinguished.
    """
    names = {id(p): name for name, p in network.named_parameters() if p.requires_grad}
    factors = dict.fromkeys(names.values(), 1.0)
    if choice.layer_decay is not None:
        groups = param_groups_layer_decay(network, layer_decay=choice.layer_decay)
        scales = {names[id(p)]: float(group["lr_scale"]) for group in groups for p in group["params"]}
        if choice.layer_decay != 1 and len(set(scales.values())) < 2:
            raise UserError(
                f"optimizer.layer_decay={choice.layer_decay:g}: timm takes all of this network for one layer; use "
                "optimizer.lr_factors"
            )
        factors |= scales
    for pattern, factor in (choice.lr_factors or {}).items():
        matching = [name for name in factors if fnmatchcase(name, pattern)]
        if not matching:
            raise UserError(f"optimizer.lr_factors={{{pattern}:{factor:g}}}: matches no parameter that is trained")
        for name in matching:
            factors[name] *= factor
    return factors
