"""Officially published state dicts: every key is accounted for."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from paperzoo.errors import UserError

WRAPPERS = ("state_dict", "model", "net")
PREFIX = "module."  # of nn.DataParallel
AROUND = ("_orig_mod", "module")  # where torch.compile and nn.DataParallel hold the network
SHOWN = 8  # keys named in a message


def load_exactly(network: nn.Module, state_dict: Mapping[str, Any]) -> None:
    """Load a state dict that must match the network key by key and shape by shape.

    ``{"state_dict": ...}`` wrappers and ``module.`` prefixes are taken off. ``num_batches_tracked`` may be absent,
    since files older than it exist. Nothing is loaded if anything is wrong.

    Raises:
        UserError: keys are missing, unexpected or of another shape; the line names them. Or the network is on meta.
    """
    for name in AROUND:
        inner = getattr(network, name, network)
        network = inner if isinstance(inner, nn.Module) else network
    given = unwrap(state_dict)
    wanted = network.state_dict()
    if any(value.is_meta for value in wanted.values()):
        raise UserError("the network is on the meta device, which holds no weights; build it on another")
    missing = [key for key in wanted if key not in given and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in given if key not in wanted]
    shapes = [
        f"{key} is {_shape(given[key])}, the network has {_shape(value)}"
        for key, value in wanted.items()
        if key in given and given[key].shape != value.shape
    ]
    problems = [
        f"{len(keys)} {name}: {', '.join(keys[:SHOWN])}{', ...' if len(keys) > SHOWN else ''}"
        for name, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if keys
    ]
    if problems:
        raise UserError(f"the weights do not fit this network: {'; '.join(problems)}")
    network.load_state_dict(given, strict=False)


def unwrap(state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors by name, without wrappers and ``module.`` prefixes.

    Raises:
        UserError: it is no mapping, or holds something else than tensors.
    """
    if not isinstance(state_dict, Mapping):
        raise UserError(
            f"the weights are a {type(state_dict).__name__}, where a mapping of names to tensors was expected"
        )
    for wrapper in WRAPPERS:
        inner = state_dict.get(wrapper)
        if isinstance(inner, Mapping):
            state_dict = inner
            break
    plain = {str(key): value for key, value in state_dict.items()}
    if all(key.startswith(PREFIX) for key in plain):  # of all keys or of none: else two could become one
        plain = {key.removeprefix(PREFIX): value for key, value in plain.items()}
    other = next((key for key, value in plain.items() if not isinstance(value, Tensor)), None)
    if other is not None:
        raise UserError(f"the weights hold {type(plain[other]).__name__} under {other}, where a tensor was expected")
    return plain


def classifier_name(network: Any) -> str:
    """The dotted name of the last layer: not all of timm's networks can say it."""
    last = network.get_classifier()
    return next(name for name, module in network.named_modules() if module is last)


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"
