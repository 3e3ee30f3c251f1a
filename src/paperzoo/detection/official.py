"""Published state dicts of detectors, whose names are not ours."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from paperzoo.networks.official import AROUND, load_exactly, unwrap

Rules = Iterable[tuple[str, str]]  # starts of names: theirs, ours; {} is a number

TRUNK: Rules = (  # mmdetection's trunk, pyramid and proposals; the layers of its trunk have timm's names
    ("backbone.", "backbone.body."),
    ("neck.lateral_convs.{}.conv.", "pyramid.laterals.{}."),
    ("neck.fpn_convs.{}.conv.", "pyramid.outputs.{}."),
    ("rpn_head.rpn_conv.", "rpn_head.shared."),
    ("rpn_head.rpn_cls.", "rpn_head.objectness."),
    ("rpn_head.rpn_reg.", "rpn_head.deltas."),
)


class Published(nn.Module):
    """A network under published names, so that messages have these.

    Args:
        network: ours.
        rules: the starts of its names, theirs and ours.
    """

    def __init__(self, network: nn.Module, rules: Rules) -> None:
        super().__init__()
        self.network = unwrapped(network)
        self.theirs = {key: renamed(key, rules) for key in self.network.state_dict()}
        self.ours = {theirs: key for key, theirs in self.theirs.items()}

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:  # type: ignore[override]
        """The network's, under published names."""
        return {self.theirs[key]: value for key, value in self.network.state_dict().items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load what has published names."""
        return self.network.load_state_dict({self.ours[key]: value for key, value in state_dict.items()}, strict=False)


def unwrapped(network: nn.Module) -> Any:
    """The network that torch.compile or nn.DataParallel holds."""
    for name in AROUND:
        inner = getattr(network, name, network)
        network = inner if isinstance(inner, nn.Module) else network
    return network


def renamed(key: str, rules: Rules) -> str:
    """The published name of ``key``: the first rule whose second part it starts with replaces this by the first."""
    for theirs, ours in rules:
        if found := re.match(re.escape(ours).replace(r"\{\}", r"(\d+)"), key):
            return theirs.format(*found.groups()) + key[found.end() :]
    return key


def load_renamed(network: nn.Module, state_dict: Mapping[str, Any], rules: Rules, unused: Iterable[str] = ()) -> None:
    """Load a published state dict, every key of it (``networks.official.load_exactly``).

    Args:
        network: ours.
        state_dict: theirs.
        rules: the starts of names, theirs and ours.
        unused: starts of published names that this network has no use for; they are left out.

    Raises:
        UserError: keys are missing, unexpected or of another shape; nothing is loaded.
    """
    given = {key: value for key, value in unwrap(state_dict).items() if not key.startswith(tuple(unused))}
    load_exactly(Published(network, rules), given)


def loader(published: str, rules: Rules) -> Callable[[nn.Module, Mapping[str, Any]], None]:
    """A paper's ``load_official`` for a layout of mmdetection's, which ``load_renamed`` does by ``rules``."""

    def load_official(network: nn.Module, state_dict: Mapping[str, Any]) -> None:
        load_renamed(network, state_dict, rules)

    load_official.__doc__ = f"""Load mmdetection's ``{published}``, every key of it.

    Raises:
        UserError: keys are missing, unexpected or of another shape.
    """
    return load_official


OLDER = (  # names that torchvision's detectors had before 0.13, in the files that it still publishes; and those since
    (re.compile(r"\.(inner_blocks|layer_blocks)\.(\d+)\.(weight|bias)$"), r".\1.\2.0.\3"),
    (re.compile(r"\brpn\.head\.conv\.(weight|bias)$"), r"rpn.head.conv.0.0.\1"),
    (re.compile(r"\b(classification_head|regression_head)\.conv\.([0246])\.(weight|bias)$"), r"\1.conv.{half}.0.\3"),
)
FROZEN_EPS = 1e-5  # of the layers of timm's trunks; torchvision computes with those older files as if it were 0


def load_torchvision(network: nn.Module, state_dict: Mapping[str, Any]) -> None:
    """Load a state dict of torchvision's, every key of it (``networks.official.load_exactly``).

    Names of its first version are translated. Files of that age were trained with batch normalisation whose epsilon is
    0, which torchvision sets when it loads them; here it is taken off the running variances.

    Raises:
        UserError: keys are missing, unexpected or of another shape; nothing is loaded.
    """
    given = unwrap(state_dict)
    named = {_current(key): value for key, value in given.items()}
    if named.keys() != given.keys():
        named = {k: v - FROZEN_EPS if k.endswith("running_var") else v for k, v in named.items()}
    load_exactly(network, named)


def _current(key: str) -> str:
    for pattern, name in OLDER:
        if found := pattern.search(key):
            half = int(found[2]) // 2 if "{half}" in name else 0
            return key[: found.start()] + found.expand(name).replace("{half}", str(half))
    return key
