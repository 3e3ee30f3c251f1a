"""An optimiser over a network's parameters, with weight decay kept off norms and biases by option."""

import inspect
from typing import Any

import torch
from torch import nn

from paperzoo.config import build
from paperzoo.config.building import locate
from paperzoo.config.schema import Optimizer
from paperzoo.norms import is_norm


def make(network: nn.Module, choice: Optimizer, *, precision: str = "32-true") -> torch.optim.Optimizer:
    """Build the chosen optimiser for the parameters that require gradients.

    Its fused form, one pass over the memory (``benchmarks/optimizers.py``), except under ``16-mixed``: there it would
    unscale the gradients itself, after Lightning has clipped them.
    """
    fused = {"fused": precision != "16-mixed"} if _has_fused_form(choice.target) else {}
    return build(choice, parameter_groups(network, choice), **fused)


def _has_fused_form(target: str) -> bool:
    return target.startswith("torch.optim.") and "fused" in inspect.signature(locate(target)).parameters


def parameter_groups(network: nn.Module, choice: Optimizer) -> list[dict[str, Any]]:
    """One group with weight decay, and one without where norms and biases are to be spared.

    To be spared are the parameters with at most one dimension (timm's rule), and all of a normalisation layer:
    those of Switchable Norm have four.
    """
    of_norms = {id(p) for module in network.modules() if is_norm(module) for p in module.parameters(recurse=False)}
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if choice.decay_norms_and_biases or choice.weight_decay == 0:
        return [{"params": parameters}]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1 and id(p) not in of_norms]},
        {"params": [p for p in parameters if p.ndim <= 1 or id(p) in of_norms], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
