"""Published state dicts of detectors, whose names are not ours."""

import re
from collections.abc import Iterable, Mapping
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
        for name in AROUND:
            inner = getattr(network, name, network)
            network = inner if isinstance(inner, nn.Module) else network
        self.network = network
        self.theirs = {key: renamed(key, rules) for key in network.state_dict()}
        self.ours = {theirs: key for key, theirs in self.theirs.items()}

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:  # type: ignore[override]
        """The network's, under published names."""
        return {self.theirs[key]: value for key, value in self.network.state_dict().items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load what has published names."""
        return self.network.load_state_dict({self.ours[key]: value for key, value in state_dict.items()}, strict=False)


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
