"""Values from W&B's distributions, and the Optuna study that chooses them.

Each number is a fixed function of a uniform u in [0, 1], so that every distribution of W&B's has an exact form here,
and a search sees a space in which equal steps are equally probable.
"""

import math
from statistics import NormalDist
from typing import Any

from paperzoo.sweeps.specification import Cell, Parameter, Sweep

EDGE = 1e-6  # a normal distribution has no ends


def at(parameter: Parameter, u: float) -> Any:
    """The value at quantile ``u`` of a parameter's distribution."""
    choices = parameter.choices
    if choices is not None:
        return choices[_choice(parameter, u)]
    kind = parameter.kind
    value = _number(kind.removeprefix("q_"), parameter, u)
    if kind == "int_uniform":
        return value
    return _rounded(value, parameter.q) if kind.startswith("q_") else value


def _choice(parameter: Parameter, u: float) -> int:
    """The index of a categorical value."""
    assert parameter.choices is not None
    count = len(parameter.choices)
    shares = parameter.probabilities or [1 / count] * count
    total = 0.0
    for index, share in enumerate(shares):
        total += share
        if u < total and share:
            return index
    return max(index for index, share in enumerate(shares) if share)


def _number(kind: str, parameter: Parameter, u: float) -> float | int:
    low, high = float(parameter.min or 0), float(parameter.max or 0)
    match kind:
        case "int_uniform":
            return int(low) + min(int(u * (high - low + 1)), int(high - low))
        case "uniform":
            return low + u * (high - low)
        case "log_uniform":
            return _exp(low + u * (high - low))
        case "log_uniform_values":
            return min(max(low * (high / low) ** u, low), high)
        case "inv_log_uniform":  # log(1 / x) is uniform
            return _exp(-(low + u * (high - low)))
        case "inv_log_uniform_values":
            return min(max(low * (high / low) ** (1 - u), low), high)
        case "normal" | "log_normal":
            normal = NormalDist(parameter.mu, parameter.sigma).inv_cdf(min(max(u, EDGE), 1 - EDGE))
            return _exp(normal) if kind == "log_normal" else normal
    raise AssertionError(kind)


def _exp(exponent: float) -> float:
    return math.exp(min(exponent, 709))  # e^710 is no number


def _rounded(value: float, q: float | int) -> float | int:
    """The nearest multiple of ``q``, a whole number where ``q`` is one."""
    multiple = round(value / q) * q
    return int(multiple) if isinstance(q, int) or float(q).is_integer() else multiple


def space(sweep: Sweep) -> dict[str, Any]:
    """Optuna's distributions: indices of choices, quantiles of numbers."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    return {
        key: FloatDistribution(0.0, 1.0)
        if parameter.choices is None or parameter.probabilities
        else CategoricalDistribution(list(range(len(parameter.choices))))
        for key, parameter in sweep.parameters.items()
    }


def cell_of(sweep: Sweep, chosen: dict[str, Any]) -> Cell:
    """The run that Optuna's choice stands for."""
    cell: Cell = {}
    for key, parameter in sweep.parameters.items():
        by_index = parameter.choices is not None and not parameter.probabilities
        cell[key] = parameter.choices[chosen[key]] if by_index and parameter.choices else at(parameter, chosen[key])
    return cell
